"""Experiments of several runs: suites, duels, sweeps, ablations and measurements of speed."""
