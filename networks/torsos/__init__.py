"""Torsos: from an observation to a feature vector."""
