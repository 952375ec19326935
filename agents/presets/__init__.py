"""Tuned settings of every algorithm, a file per game family; `registry` merges them."""
