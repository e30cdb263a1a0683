"""Fetches files from an sFTP server and sends them."""
