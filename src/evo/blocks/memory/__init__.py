"""Neural memory: a small network in each head whose weights learn, while it reads, to give values for keys (Titans)."""
