"""Agents that learn to play, the two loops that train them, and the runs they leave behind."""
