"""A stage over one segment of tokens after the other, which hands vectors on from each to the next."""
