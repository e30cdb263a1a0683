"""Turns files of declared datasets into records."""
