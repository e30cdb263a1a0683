"""Run the alarms: `python -m headrace_ops.alarms`."""

from headrace.cli import main

main(["run", "alarms"])
