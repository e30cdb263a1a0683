"""The console: pages to watch Headrace with, and to re-drive what failed."""
