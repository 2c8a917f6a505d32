"""A stage over patches whose lengths follow from the tokens."""
