"""Run the console: `python -m headrace_ops.console`."""

from headrace.cli import main

main(["run", "console"])
