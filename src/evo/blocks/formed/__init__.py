"""A block whose linear maps have a form: fewer numbers than a matrix."""
