"""Agents that learn to play, the two loops that train them, and the runs they leave behind."""

import os

# read by OpenMP when torch is first imported: idle threads must not spin away the cores that the emulator needs
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
