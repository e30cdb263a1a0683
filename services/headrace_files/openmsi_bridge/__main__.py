"""Run the bridge: `python -m headrace_files.openmsi_bridge`, with the settings of its section."""

from headrace.cli import main

main(["run", "openmsi_bridge"])
