"""A stage that runs another one several times."""
