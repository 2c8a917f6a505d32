"""Ridge regression over what plans say."""
