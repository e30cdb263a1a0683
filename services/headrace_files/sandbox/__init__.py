"""Stand-ins for the outside systems of this family."""
