"""Compares the dump with what ART has, through REST alone. Source: reference art 1.11."""
