"""RWKV-4: a weighted mean of the past by channel, and its feed-forward, both with token shift."""
