"""RMS and layer normalisation, and where in a block they stand."""
