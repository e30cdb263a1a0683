#!/usr/bin/env bash
# Brings what `make demo` and `make test` need onto this machine, from nothing. What is there is left as it is, so the
# second run takes no time and no network.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/setup/messages.sh
. deploy/setup/packages.sh
. deploy/setup/python.sh

make_environment
fill_environment requirements-dev.lock

need_java
if ! .venv/bin/python -m headrace.broker --check; then
    need_maven
    say "fetching Apache Kafka and preparing it for quick starts"
    .venv/bin/python -m headrace.broker
fi

if ! .venv/bin/python -m headrace.sandbox --check; then
    go_will_do || filled_from requirements-moto.lock || want_go
    if go_will_do; then
        say "building the S3 server versitygw, which takes a minute or two"
    fi
    if ! go_will_do || ! .venv/bin/python -m headrace.sandbox; then
        say "no versitygw (it needs Go 1.$oldest_go): moto's server stands in, good enough to look at, not to measure"
        fill_environment requirements-moto.lock
    fi
fi
