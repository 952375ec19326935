"""Options, errors and help of all commands."""
