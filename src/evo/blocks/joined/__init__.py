"""A block that reads the outputs of stages beside the stream."""
