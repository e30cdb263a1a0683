# shellcheck shell=bash
# Sourced: how the set-up speaks. A line a step, on standard error, so that the output of commands can be piped.

say() {
    printf 'setup: %s\n' "$*" >&2
}

fail() {
    say "$@"
    exit 1
}
