"""Watches a folder and sends its files."""
