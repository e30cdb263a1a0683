"""Converts the settings of the old loader without executing them. Source: reference art 1.4."""
