"""A stream in parts that are mixed as streams are."""
