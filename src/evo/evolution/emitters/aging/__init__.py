"""Regularised evolution: the young breed and the oldest die."""
