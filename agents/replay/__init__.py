"""Replay memories: rows stored once, everything else built when sampled."""
