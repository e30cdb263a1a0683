#!/usr/bin/env bash
# Brings the browser that the console is tested in onto this machine, for `make test`; `make demo` needs none.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/setup/messages.sh
. deploy/setup/packages.sh

want_chromium
