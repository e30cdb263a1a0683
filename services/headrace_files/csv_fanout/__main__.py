"""Run the fan-out: `python -m headrace_files.csv_fanout`, with the settings of its section."""

from headrace.cli import main

main(["run", "csv_fanout"])
