"""Run the stage: `python -m headrace_art.students`, with the settings of its section."""

from headrace.cli import main

main(["run", "students"])
