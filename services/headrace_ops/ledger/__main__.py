"""Run a ledger: `python -m headrace_ops.ledger`."""

from headrace.cli import main

main(["run", "ledger"])
