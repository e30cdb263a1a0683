#!/usr/bin/env bash
# Run the contract, integration and short chaos tests, a process and a broker for each file: what one file leaves behind
# (clients, threads, topics) does not slow down the next. Two files run side by side, since they mostly wait; one that
# fails so is run once more with the machine to itself, and says so. Exit 1 if a file failed twice.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

SIDE_BY_SIDE=2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# run FILE: what pytest prints is shown when it is done, so that two files do not mix.
run() {
    local said="$folder/${1//\//-}.txt" code
    .venv/bin/pytest "$1" -m "not long" >"$said" 2>&1
    code=$?
    flock "$folder" cat "$said"
    # 5: every test of the file is a long one.
    [ "$code" -eq 0 ] || [ "$code" -eq 5 ]
}

running=0
for file in tests/contract/test_*.py tests/integration/test_*.py tests/chaos/test_*.py; do
    [ "$running" -lt "$SIDE_BY_SIDE" ] || { wait -n; running=$((running - 1)); }
    { run "$file" || echo "$file" >>"$folder/again"; } &
    running=$((running + 1))
done
wait

failed=()
[ ! -e "$folder/again" ] || mapfile -t again <"$folder/again"
for file in "${again[@]:-}"; do
    [ -n "$file" ] || continue
    echo "== $file failed; once more, alone"
    run "$file" || failed+=("$file")
done

[ -z "${again[*]:-}" ] || printf '== needed a second try: %s\n' "${again[@]}"
if [ "${#failed[@]}" -gt 0 ]; then
    printf '== failed: %s\n' "${failed[@]}"
    exit 1
fi
echo "== all files passed"
