"""Proof that everything adds up: what the log says became of every file, and whether the destinations agree."""
