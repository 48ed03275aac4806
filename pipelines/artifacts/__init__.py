"""What stages hand to each other, in files."""
