"""Floor 4: trackers, which are told what a training measures. Each imports its package when it begins."""
