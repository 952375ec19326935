"""Run keeping: the run folder, checkpoints, metrics and tracking, the display, the machine and the pre-flight."""
