"""The chunk protocol: how a file becomes messages, and what makes it whole again. Source: design sections 3 and 9."""
