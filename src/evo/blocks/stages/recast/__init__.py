"""A stage whose linear maps are read in another form."""
