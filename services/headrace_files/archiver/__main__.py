"""Run the archiver: `python -m headrace_files.archiver`, with the settings of its section."""

from headrace.cli import main

main(["run", "archiver"])
