# shellcheck shell=bash
# Sourced: the virtual environment .venv, with exactly what a lock file names and this project as links to its sources.

# find_python: prints a Python of at least 3.11; $PYTHON is asked first.
find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is needed. Install it, or say where it is: make PYTHON=/path/to/python3.11"
}

make_environment() {
    local python
    if .venv/bin/python -c '' 2>/dev/null; then
        return
    fi
    python=$(find_python)
    say "making .venv with $("$python" --version)"
    if ! "$python" -m venv --clear .venv >/dev/null; then
        # Debian's Python comes without the part that puts pip into an environment.
        can_install || fail "$python cannot make a virtual environment. Install what it lacks:" \
            "'sudo apt-get install python3-venv' (Debian, Ubuntu)."
        apt_install python3-venv
        "$python" -m venv --clear .venv
    fi
}

# filled_from LOCK: whether the environment holds what the lock names now.
filled_from() {
    [ "$(state_of "$1")" = "$(cat ".venv/filled-from-$1" 2>/dev/null)" ]
}

# fill_environment LOCK: installs what the lock names, unless that was done.
fill_environment() {
    if filled_from "$1"; then
        return
    fi
    say "installing what $1 names"
    pip_install --require-hashes --requirement "$1"
    # The build backend is in the lock, so nothing is fetched that has no hash.
    pip_install --no-deps --no-build-isolation --editable .
    state_of "$1" >".venv/filled-from-$1"
}

state_of() {
    cksum "$1" pyproject.toml
}

pip_install() {
    .venv/bin/python -m pip --quiet --disable-pip-version-check install "$@" >&2
}
