"""Supervised tasks: data, models and goals."""
