"""Lion (Chen et al. 2023)."""
