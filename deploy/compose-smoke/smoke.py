#!/usr/bin/env python3
"""Bring the stack of docker-compose.yml up, send data through it, break it in several ways, and see the books balance.

What must hold: every container becomes healthy; a night of students is fetched from an sFTP server and loaded into a
stand-in for ART; while an instrument writes 500 files, assemblers are scaled 1 → 3 → 1, services are killed with
SIGKILL and come back by their restart policy, the object store is stopped, Kafka is restarted and killed; afterwards
the rebuilt tree equals the one that was sent, byte for byte, `headrace verify --deep` says that everything balances,
and every chart of the dashboard shows something.

Needs Python 3.11, Docker, and Compose (1.29 or today's). Exit code 0 if all of it held.
"""

from __future__ import annotations

import argparse
import http
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SERVICES = (
    "kafka", "s3", "directory-source", "sftp-source", "assembler", "archiver", "csv-fanout", "entities", "students",
    "ledger", "alarms", "console", "prometheus",
)  # fmt: skip
PROFILES = ("console", "sandbox", "sftp", "art", "monitoring")
# It has no line before something has failed.
QUIET_CHART = "Work that failed, by code"
DASHBOARD = ROOT / "deploy" / "compose" / "grafana" / "dashboards" / "headrace.json"
FILES, SECONDS = 500, 100
BALANCED_WITH_DEAD_LETTERS = 3
# A chart of failures is empty where nothing has failed.
MAY_BE_EMPTY = frozenset({"Work that failed, by code"})
STAND_INS = {
    "PYTHON_IMAGE": "headrace-standin/python",
    "KAFKA_IMAGE": "headrace-standin/kafka",
    "S3_IMAGE": "headrace-standin/s3",
    "PROMETHEUS_IMAGE": "headrace-standin/prometheus",
}
# Kills what tini started, as the kernel would: tini then ends with it, and the restart policy has to act.
KILL = "import os; os.kill(int(open('/proc/1/task/1/children').read().split()[0]), 9)"
HASHES = """
import hashlib, os, sys
root, found = b"/data/" + sys.argv[1].encode(), {}
for folder, folders, names in os.walk(root):
    # Those of the sFTP server are not the instrument's.
    folders[:] = [name for name in folders if name not in (b".headrace", b"Students", b"Schools")]
    for name in names:
        path = os.path.join(folder, name)
        with open(path, "rb") as file:
            found[os.path.relpath(path, root)] = hashlib.file_digest(file, "sha256").hexdigest()
print(len(found), hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest())
"""
METRIC = """
import sys, urllib.request
lines = urllib.request.urlopen("http://127.0.0.1:9464/metrics", timeout=5).read().decode().splitlines()
values = [float(line.split()[-1]) for line in lines if line.startswith((sys.argv[1] + "{", sys.argv[1] + " "))]
print(int(sum(values)))
"""
FETCHED = "import pathlib; raise SystemExit(not any(pathlib.Path('/data/rebuilt/Students').glob('*.zip')))"
SPOIL = """
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": "kafka:9092"})
producer.produce("headrace.chunks", key=b"00" * 16 + b"/" + b"00" * 16, value=b"no frame")
raise SystemExit(producer.flush(20))
"""


class Failed(Exception):
    """Something that must hold does not."""


class Stack:
    """The stack under a project name of its own."""

    def __init__(self, project: str, environment: dict[str, str]) -> None:
        modern = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
        program = ["docker", "compose"] if modern else ["docker-compose"]
        self._compose = [*program, "--project-name", project, "--file", str(ROOT / "docker-compose.yml")]
        self._profiles = [part for name in PROFILES for part in ("--profile", name)]
        self.environment = environment

    def compose(self, *arguments: str, within: float = 300) -> str:
        """Run Compose with all profiles; what it prints."""
        return self._run([*self._compose, *self._profiles, *arguments], within)

    def docker(self, *arguments: str) -> str:
        """Run Docker; what it prints."""
        return self._run(["docker", *arguments], 120)

    def containers(self, service: str) -> list[str]:
        """The ids of the containers of a service that run."""
        return self.compose("ps", "-q", service).split()

    def inside(self, container: str, script: str, *arguments: str) -> str:
        """Run a Python script in a container."""
        return self.docker("exec", container, "python", "-c", script, *arguments)

    def state(self, container: str, form: str) -> str:
        """Something that `docker inspect` tells."""
        return self.docker("inspect", "--format", form, container).strip()

    def unhealthy(self) -> list[str]:
        """Services without a container, or with one that is not healthy."""
        missing = []
        for service in SERVICES:
            states = [self.state(each, "{{.State.Health.Status}}") for each in self.containers(service)]
            if not states or any(state != "healthy" for state in states):
                missing.append(f"{service}: {', '.join(states) or 'no container'}")
        return missing

    def tool(self, *arguments: str, entrypoint: str | None = None, within: float = 300) -> tuple[int, str]:
        """Run a command in a container of its own; exit code, and what it prints: errors only if it failed."""
        chosen = [] if entrypoint is None else ["--entrypoint", entrypoint]
        run = subprocess.run(
            [*self._compose, "run", "--rm", "--no-deps", "-T", *chosen, "headrace", *arguments],
            env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within,
            check=False, cwd=ROOT,
        )  # fmt: skip
        return run.returncode, run.stdout if run.returncode == 0 else run.stdout + run.stderr

    def _run(self, command: Sequence[str], within: float) -> str:
        run = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=within, check=False, cwd=ROOT
        )
        if run.returncode != 0:
            raise Failed(f"{' '.join(command)} ended with {run.returncode}: {run.stderr[-2000:]}")
        return run.stdout


def say(text: str) -> None:
    """A line for whoever watches."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def wait_until(what: str, condition: Callable[[], object], within: float) -> None:
    """Wait for a condition: true, or an empty list of what is missing."""
    deadline = time.monotonic() + within
    while True:
        found = condition()
        if found is True or found == []:
            return
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {within:.0f} s; last seen: {found}")
        time.sleep(1)


def rehearse(stack: Stack) -> None:
    """All of it."""
    say("starting the stack")
    stack.compose("up", "--detach", "sftp", "art", *SERVICES, within=900)
    wait_until("all containers are healthy", stack.unhealthy, 180)
    say("all containers are healthy: " + ", ".join(SERVICES))
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.environment['CONSOLE_PORT']}/login", timeout=10) as page:
        if page.status != http.HTTPStatus.OK:
            raise Failed(f"the console answers {page.status}")
    say("the console shows its page")
    load_students(stack)

    say(f"an instrument writes {FILES} files within {SECONDS} s")
    stack.compose("up", "--detach", "--no-deps", "instrument")
    instrument = stack.compose("ps", "-q", "instrument").strip()
    began = time.monotonic()

    scale(stack, 3)
    share_the_work(stack)
    kill(stack, stack.containers("assembler")[0], "an assembler")
    kill(stack, stack.containers("archiver")[0], "the archiver")
    kill(stack, stack.containers("directory-source")[0], "the source")
    say("the object store is away for a while")
    stack.compose("stop", "s3")
    archiver = stack.containers("archiver")[0]
    wait_until("the archiver sees it", lambda: metric(stack, archiver, "headrace_archiver_store_unwell") == 1, 60)
    stack.compose("start", "s3")
    say("restarting Kafka")
    stack.compose("restart", "kafka")
    wait_until("Kafka is healthy again", lambda: healthy(stack, "kafka"), 120)
    scale(stack, 1)
    say("killing Kafka")
    kafka = stack.containers("kafka")[0]
    stack.docker("kill", kafka)
    stack.docker("start", kafka)
    wait_until("Kafka is healthy again", lambda: healthy(stack, "kafka"), 120)
    kill(stack, stack.containers("assembler")[0], "the last assembler")

    if stack.state(instrument, "{{.State.Running}}") != "true":
        say("note: the instrument was done before the last fault")
    wait_until("the instrument is done", lambda: stack.state(instrument, "{{.State.Status}}") == "exited", SECONDS + 60)
    if stack.state(instrument, "{{.State.ExitCode}}") != "0":
        raise Failed("the instrument failed: " + stack.docker("logs", instrument)[-500:])
    say(f"the instrument was done after {time.monotonic() - began:.0f} s")

    # Books of files that are still too young to be taken would balance as well.
    wait_until("the rebuilt tree equals the one that was sent", lambda: same_trees(stack), 120)
    wait_until("the books balance", lambda: balanced(stack), 300)
    say("headrace verify --deep: everything balances, and the destinations hold what the log says")
    wait_until("all containers are healthy", stack.unhealthy, 120)
    say("all containers are healthy")
    charts(stack)


def load_students(stack: Stack) -> None:
    """Load a night: it is fetched from the sFTP server, and a few of its rows break the rules of ART."""
    code, text = stack.tool("art", "load", "--json")
    if code != BALANCED_WITH_DEAD_LETTERS:
        raise Failed(f"headrace art load ended with {code}: {text[-1500:]}")
    say("headrace art load: " + text.strip().splitlines()[-1][:300])
    wait_until(
        "a file from the sFTP server is rebuilt", lambda: stack.tool("-c", FETCHED, entrypoint="python")[0] == 0, 90
    )
    say("a file from the sFTP server is rebuilt")


def scale(stack: Stack, copies: int) -> None:
    """Run so many assemblers."""
    say(f"scaling assemblers to {copies}")
    stack.compose("up", "--detach", "--no-deps", "--no-recreate", "--scale", f"assembler={copies}", "assembler")
    wait_until(f"{copies} assemblers run", lambda: len(stack.containers("assembler")) == copies, 60)


def share_the_work(stack: Stack) -> None:
    """See that every copy delivers files."""

    def idle() -> list[str]:
        each = {name: metric(stack, name, "headrace_receipts_total") for name in stack.containers("assembler")}
        return [f"{name[:12]} has delivered {count}" for name, count in each.items() if count == 0]

    wait_until("every assembler delivers files", idle, 60)
    say(f"{len(stack.containers('assembler'))} assemblers share the work")


def metric(stack: Stack, container: str, name: str) -> int:
    """A metric of a copy, summed over its labels; 0 if it does not answer yet."""
    try:
        return int(stack.inside(container, METRIC, name))
    except Failed:
        return 0


def kill(stack: Stack, container: str, name: str) -> None:
    """Kill a service with SIGKILL, and see that its restart policy brings it back."""
    before = stack.state(container, "{{.RestartCount}}")
    stack.inside(container, KILL)
    wait_until(f"{name} is started again", lambda: stack.state(container, "{{.RestartCount}}") != before, 30)
    say(f"killed {name}; it was started again")


def healthy(stack: Stack, service: str) -> bool:
    """Whether the one container of a service is healthy."""
    return [stack.state(each, "{{.State.Health.Status}}") for each in stack.containers(service)] == ["healthy"]


def charts(stack: Stack) -> None:
    """See that Prometheus has found every service, and that every query of the dashboard returns data."""
    code, text = stack.tool("-c", SPOIL, entrypoint="python")
    if code != 0:
        raise Failed(text[-1000:])
    found = set(ask(stack, "query", query='up{job="headrace"} == 1'))
    queries = [
        (panel["title"], target["expr"])
        for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]
        for target in panel.get("targets", ())
        if panel["title"] not in MAY_BE_EMPTY
    ]

    def empty() -> list[str]:
        end = time.time()
        # Without what a query says where there is nothing.
        wanted = [(title, query.removesuffix(" or vector(0)")) for title, query in queries]
        return [
            f"{title}: {query}"
            for title, query in wanted
            if not ask(stack, "query_range", query=query, start=f"{end - 1800}", end=f"{end}", step="15")
            and title != QUIET_CHART
        ]

    wait_until("every chart shows something", empty, 60)
    say(f"Prometheus reads {len(found)} containers; the {len(queries)} queries of the dashboard return data")


def ask(stack: Stack, way: str, **parameters: str) -> list[str]:
    """The labels of what Prometheus answers. Source: Prometheus' documentation, "HTTP API"."""
    address = f"http://127.0.0.1:{stack.environment['PROMETHEUS_PORT']}/api/v1/{way}"
    with urllib.request.urlopen(f"{address}?{urllib.parse.urlencode(parameters)}", timeout=20) as answer:  # noqa: S310 - http
        return [json.dumps(each["metric"]) for each in json.load(answer)["data"]["result"]]


def balanced(stack: Stack) -> object:
    """Whether `headrace verify --deep` says that everything has arrived; else the end of what it says."""
    code, text = stack.tool("verify", "--deep", "--json")
    if code != 0:
        return text[-300:]
    say(text.strip().splitlines()[-1][:400])
    return True


def same_trees(stack: Stack) -> object:
    """Whether what was rebuilt equals what was written, without asking Headrace; else what differs."""
    sums = {}
    for folder in ("incoming", "rebuilt"):
        code, text = stack.tool("-c", HASHES, folder, entrypoint="python")
        if code != 0:
            raise Failed(text[-1000:])
        sums[folder] = text.strip().splitlines()[-1]
    files = int(sums["incoming"].split()[0])
    if sums["incoming"] != sums["rebuilt"] or files < FILES:
        return f"the trees differ: {json.dumps(sums)}"
    say(f"the rebuilt tree equals the one that was sent: {files} files")
    return True


def free_port() -> str:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def main() -> int:
    """Parse the command line, run, and clean up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stand-ins", action="store_true", help="make images from what this machine has; needs root")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian", help="for --stand-ins: Debian's mirror")
    parser.add_argument("--keep", action="store_true", help="leave the stack running at the end")
    parser.add_argument("--project", default="headrace-smoke", help="Compose's project name")
    chosen = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="headrace-smoke-"))
    secrets = folder / "secrets"
    environment = {
        **os.environ,
        "HEADRACE_SECRETS": str(secrets),
        "HEADRACE_UID": "10001" if os.getuid() == 0 else str(os.getuid()),
        "HEADRACE_IMAGE": "headrace:smoke",
        "INSTRUMENT_SECONDS": str(SECONDS),
        # Free ports, so that it runs beside a stack that is in use.
        **{name: free_port() for name in ("KAFKA_OUTSIDE_PORT", "S3_PORT", "CONSOLE_PORT", "PROMETHEUS_PORT")},
    }
    if chosen.stand_ins:
        subprocess.run([str(HERE / "stand-ins" / "build"), chosen.mirror], check=True)
        environment |= STAND_INS
    if subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode != 0:
        environment |= {"DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"}
    stack = Stack(chosen.project, environment)
    subprocess.run([str(ROOT / "deploy" / "compose" / "make-secrets"), str(secrets)], env=environment, check=True)
    code = 0
    try:
        say("building the image")
        stack.compose("build", "topics", within=1200)
        size = int(stack.docker("image", "inspect", "--format", "{{.Size}}", "headrace:smoke")) / 1e6
        say(f"the image has {size:.0f} MB")
        if size >= 300:
            raise Failed(f"the image has {size:.0f} MB; it must stay below 300")
        rehearse(stack)
        say("passed")
    except (Failed, urllib.error.URLError) as error:
        say(f"FAILED: {error}")
        say(stack.compose("logs", "--tail", "30")[-8000:])
        code = 1
    finally:
        if not chosen.keep:
            stack.compose("--profile", "tools", "down", "--volumes", "--remove-orphans")
            shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(main())
