"""Sending again what is confirmed already."""

from __future__ import annotations

RESEND = "hr-resend"
"""Header of records that are to be sent whether they have changed or not."""
