#!/usr/bin/env bash
# Writes the lock files anew from pyproject.toml: names, versions and hashes, no download addresses.
# One resolution for all: what a user installs is what was tested.
# Versions stay as they are unless something new asks for others, or UPGRADE is set.
set -euo pipefail
cd "$(dirname "$0")/../.."

# lock FILE ARGUMENT...: what the project itself needs, and more.
lock() {
    lock_alone "$@" pyproject.toml
}

# lock_alone FILE ARGUMENT...
lock_alone() {
    local file=$1
    shift
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate ${UPGRADE:+--upgrade} \
        --custom-compile-command 'make lock' --output-file "$file" "$@"
}

lock requirements-dev.lock --group dev
lock requirements.lock --constraints requirements-dev.lock
lock_alone requirements-build.lock --group build --constraints requirements-dev.lock
lock requirements-moto.lock --group dev --group moto --constraints requirements-dev.lock
