"""A stage that adds vectors of hashed n-grams."""
