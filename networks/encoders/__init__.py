"""Encoders: networks that a supervised task trains, that are saved as folders, and that agents reuse."""
