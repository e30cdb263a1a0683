#!/usr/bin/env bash
# Brings what tests stand against onto this machine, for `make test`: a browser for the console, an SSH server to fetch
# files from. `make demo` needs none of them.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/setup/messages.sh
. deploy/setup/packages.sh

want_chromium
want_sshd
