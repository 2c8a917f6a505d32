"""A stage over chunks whose ends a router finds."""
