"""Zero-cost proxies: one pass through the untrained organism."""
