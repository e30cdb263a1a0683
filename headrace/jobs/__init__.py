"""Jobs: what an operator wants of them, and books that balance when they are done."""
