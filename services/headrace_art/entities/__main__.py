"""Run the stage: `python -m headrace_art.entities`, with the settings of its section."""

from headrace.cli import main

main(["run", "entities"])
