"""Rebuilds files from chunks in one folder tree."""
