"""Keeps the books of jobs."""
