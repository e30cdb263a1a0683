"""Run the source: `python -m headrace_files.sftp_source`, with the settings of its section."""

from headrace.cli import main

main(["run", "sftp_source"])
