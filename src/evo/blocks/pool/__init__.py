"""A pool of pseudopods: slots of one kind of mixer, of which some are alive."""
