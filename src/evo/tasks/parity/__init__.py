"""The parity of all bits so far."""
