"""Torsos turn an observation into a feature vector."""
