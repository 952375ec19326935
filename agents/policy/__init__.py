"""Agents that learn a policy."""
