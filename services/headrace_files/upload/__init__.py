"""Sends files once and waits until they have arrived."""
