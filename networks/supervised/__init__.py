"""Supervised learning of encoders: data, losses, the loop, metrics and preprocessing."""
