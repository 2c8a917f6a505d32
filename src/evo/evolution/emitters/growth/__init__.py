"""Growth: children that compute what their parents do, with room for more."""
