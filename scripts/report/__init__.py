"""Read run folders and write the comparison page."""
