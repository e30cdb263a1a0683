"""Run the assembler: `python -m headrace_files.assembler`, with the settings of its section."""

from headrace.cli import main

main(["run", "assembler"])
