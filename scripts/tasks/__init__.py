"""Supervised tasks: where their examples come from, and how their answers are judged."""
