"""Two stages whose states change at two paces."""
