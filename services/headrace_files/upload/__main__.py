"""Send files once: `python -m headrace_files.upload FILE...`."""

import sys

from headrace.cli import main

main(["upload", *sys.argv[1:]])
