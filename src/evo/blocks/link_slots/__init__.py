"""Link slots: a token reads the few earlier queries that are nearest to its own."""
