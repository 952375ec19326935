"""Supervised tasks: data, models, metrics and goals."""
