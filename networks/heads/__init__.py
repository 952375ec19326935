"""Heads: action values, policies and critics."""
