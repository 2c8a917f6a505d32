"""Feed-forwards with a learned function on each edge: Kolmogorov-Arnold networks."""
