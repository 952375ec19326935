"""Train, evaluate, watch and load runs."""
