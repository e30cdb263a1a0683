#!/usr/bin/env bash
# Runs every benchmark, one after another, so that none disturbs another; goes on after one that fails.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

failed=0
# The other modules there are what the programs share.
while read -r program; do
    name=$(basename "$program" .py)
    printf '\n== %s\n' "$name"
    .venv/bin/python -m "tests.bench.$name" </dev/null || failed=1
done < <(grep -l '__main__' tests/bench/*.py)
exit "$failed"
