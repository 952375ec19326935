"""Supervised training of encoders."""
