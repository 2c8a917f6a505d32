"""A stage that draws a code for each token."""
