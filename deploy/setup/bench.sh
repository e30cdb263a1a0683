#!/usr/bin/env bash
# Runs every benchmark, one after another, so that none disturbs another; goes on after one that fails.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

failed=0
for program in tests/bench/bench_*.py; do
    name=$(basename "$program" .py)
    printf '\n== %s\n' "$name"
    .venv/bin/python -m "tests.bench.$name" || failed=1
done
exit "$failed"
