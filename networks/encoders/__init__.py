"""Encoders: networks that a supervised task trains, that are saved as folders, and that agents reuse."""

from networks.encoders import audio, image, text, vector  # noqa: F401  (they register their architectures)
