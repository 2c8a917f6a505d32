"""A variant and what it is held against, trained at several sizes: does what it is better by hold as models grow?"""
