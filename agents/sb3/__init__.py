"""Stable-Baselines3's agents as baselines."""
