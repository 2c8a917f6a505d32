"""A mixer for comparison: attention whose heads are generated. A package of its own, which comes in by `evo.kinds`."""
