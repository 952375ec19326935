"""Encoders: trained on supervised tasks, saved as folders, reused by agents."""

from networks.encoders import audio, image, text, vector  # noqa: F401  (they register their architectures)
