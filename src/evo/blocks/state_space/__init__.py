"""Linear state spaces whose transition is the same at every token: S4D, S5 and the LRU."""
