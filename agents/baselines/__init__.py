"""Agents of other libraries, behind our runner."""
