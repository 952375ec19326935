"""Supervised learning of encoders: data, models, training loop, augmentation and metrics."""
