"""What the console shows of this family."""
