"""Read run folders, compare runs, and write the report page."""
