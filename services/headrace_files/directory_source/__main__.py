"""Run the source: `python -m headrace_files.directory_source`, with the settings of its section."""

from headrace.cli import main

main(["run", "directory_source"])
