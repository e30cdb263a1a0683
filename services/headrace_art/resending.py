"""Sending again what is confirmed already."""

from __future__ import annotations

from headrace.datasets.selection import RESEND_HEADER as RESEND

__all__ = ["RESEND"]
