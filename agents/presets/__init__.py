"""Tuned settings: one file per game family, and the registry that finds them."""
