"""Supervised training and evaluation of encoders."""
