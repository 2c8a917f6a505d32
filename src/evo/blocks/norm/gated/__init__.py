"""A norm that gates its own output."""
