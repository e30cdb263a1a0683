#!/usr/bin/env python3
"""Install Headrace under a real systemd as docs/how-to/one-machine-without-containers.md says, and break it there.

The commands of the how-to are taken from its text. What must hold, under all hardening of the units: files arrive in
another tree; what is killed is started again; what is stopped drains, and leaves no process and a Kafka that was closed
in good order; wrong settings are not tried again; the timer loads students and writes their report; `headrace verify
--deep` says that everything balances.

Needs Python 3.11, Docker, and an engine that may run a privileged container. Exit code 0 if all of it held.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HOW_TO = ROOT / "docs" / "how-to" / "one-machine-without-containers.md"
STAND_IN = "headrace-standin/python"
UNITS = ("headrace.service", "headrace@assembler.copy.service", "headrace-art-load.service", "headrace-art-load.timer")

SETTINGS = """
[up]
services = ["directory_source", "assembler.copy", "ledger", "alarms"]

[directory_source]
root = "/data/incoming"
source = "instrument"
settle = "1s"

[assembler.copy]
root = "/data/copy"
sink = "copy"

[sftp_source]
host = "127.0.0.1"
port = 2222
user = "{user}"
key_file = "/etc/headrace/sftp_key"
fingerprint = "{fingerprint}"

[art_load]
students = "./Students/CA_students_%Y%m%d.zip"
schools = "./Schools/CA_schools_%Y%m%d.zip"

[art]
url = "http://127.0.0.1:8443/rest"
token_url = "http://127.0.0.1:8444/auth/oauth2/access_token?realm=/sbac"
username = "loader@example.org"
password_file = "/etc/headrace/secret"
client_id = "headrace"
client_secret_file = "/etc/headrace/secret"
"""
KAFKA_OF_ONES_OWN = '\n[kafka]\nbootstrap = "127.0.0.1:19092"\n'
DESTINATION = "[Service]\nReadWritePaths=/data/copy\n"
SOON = "[Timer]\nOnCalendar=\nOnCalendar=*-*-* *:*:00/5\n"
HEADRACE = "/opt/headrace/bin/headrace"
AS_HEADRACE = f"sudo -u headrace HEADRACE_STATE=/var/lib/headrace HEADRACE_CACHE=/var/cache/headrace {HEADRACE}"
SETTINGS_FILE = "/etc/headrace/headrace.toml"
BROKER = "/var/lib/headrace/broker"
TREES = "cd /data/{0} && find . -name .headrace -prune -o -type f -print0 | sort -z | xargs -0 sha256sum"


class Failed(Exception):
    """Something that must hold does not."""


class Machine:
    """A container whose first process is systemd."""

    def __init__(self, image: str) -> None:
        # systemd wants a fresh /run, as after a start of a machine.
        run = ["docker", "run", "--detach", "--rm", "--cgroupns=private", "--tmpfs", "/run"]
        try:
            started = _output([*run, "--privileged", image], 60)
        except Failed:
            # An engine that lacks some privilege itself can give none; where cgroups of version 1 are mounted as well,
            # the right to mount is enough for systemd.
            unconfined = ["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"]
            started = _output([*run, "--cap-add=SYS_ADMIN", *unconfined, image], 60)
        self._id = started.strip().splitlines()[-1]

    def copy(self, source: Path, target: str) -> None:
        """Put a file or folder of this machine there."""
        _output(["docker", "cp", str(source), f"{self._id}:{target}"], 300)

    def write(self, path: str, text: str) -> None:
        """Write a file, and its folder."""
        name = shlex.quote(path)
        self.run(f"mkdir -p $(dirname {name}) && cat >{name}", text=text)

    def attempt(self, script: str, within: float = 120, text: str = "") -> tuple[int, str]:
        """Run a script as root; exit code, and what it prints."""
        run = subprocess.run(
            ["docker", "exec", "-i", "--workdir", "/root/delivery", self._id, "bash", "-euc", script],
            input=text, capture_output=True, text=True, timeout=within, check=False,
        )  # fmt: skip
        return run.returncode, run.stdout + run.stderr

    def run(self, script: str, within: float = 120, text: str = "") -> str:
        """Run a script as root that must work; what it prints."""
        code, said = self.attempt(script, within, text)
        if code != 0:
            raise Failed(f"{script}: exit code {code}: {said[-1500:]}")
        return said

    def show(self, unit: str, what: str) -> str:
        """A property of a unit."""
        return self.run(f"systemctl show --property {what} --value {shlex.quote(unit)}").strip()

    def remove(self) -> None:
        """End it."""
        subprocess.run(["docker", "rm", "--force", "--volumes", self._id], capture_output=True, check=False)


def _output(command: list[str], within: float, **environment: str) -> str:
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=within, check=False, env={**os.environ, **environment}
    )
    if run.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit code {run.returncode}: {run.stdout[-500:]}{run.stderr[-1500:]}")
    return run.stdout


def say(text: str) -> None:
    """A line for whoever watches."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def wait_until(what: str, condition: Callable[[], object], within: float) -> None:
    """Wait for a condition: true, or what is there instead."""
    deadline = time.monotonic() + within
    while (found := condition()) is not True:
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {within:.0f} s; last seen: {str(found)[-600:]}")
        time.sleep(1)


def commands_of(heading: str, number: int = 0) -> str:
    """A block of commands of the how-to, such as the first below a heading."""
    section = HOW_TO.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"(?:^    .+\n)+", section, re.MULTILINE)
    return "\n".join(line[4:] for line in blocks[number].splitlines())


def image(stand_ins: bool) -> str:
    """Build the machine's image; its name."""
    base = ["--build-arg", f"BASE={STAND_IN}"] if stand_ins else []
    modern = subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode == 0
    _output(["docker", "build", *base, "--tag", "headrace-systemd", str(HERE)], 900, DOCKER_BUILDKIT=str(int(modern)))
    return "headrace-systemd"


def install(machine: Machine, wheel: Path, stand_ins: bool) -> None:
    """Follow the how-to's first section."""
    wait_until("systemd runs", lambda: "running" in machine.attempt("systemctl is-system-running")[1], 60)
    machine.copy(wheel, "/root/delivery/")
    machine.copy(ROOT / "deploy", "/root/delivery/")
    if stand_ins:
        # The authorities that this machine trusts, as its Java keeps them.
        machine.copy(Path("/etc/ssl/certs/java/cacerts"), "/etc/ssl/certs/java/cacerts")
    machine.write("/root/delivery/headrace.toml", "")
    machine.write("/root/delivery/secret", "sandbox")
    say("installing as the how-to says")
    machine.run(commands_of("Set up"), within=600)
    machine.run("install -m 400 -o headrace secret /etc/headrace/")
    for service in ("headrace.service", "headrace@.service"):
        machine.write(f"/etc/systemd/system/{service}.d/destination.conf", DESTINATION)
    machine.run("mkdir -p /data/incoming && install -d -o headrace /data/copy && systemctl daemon-reload")
    if said := machine.run("systemd-analyze verify " + " ".join(UNITS)).strip():
        raise Failed(f"systemd-analyze verify: {said}")
    for unit in UNITS[:3]:
        say(machine.run(f"systemd-analyze security --no-pager {unit} | tail -n 1").strip())


def outside(machine: Machine) -> None:
    """Start an sFTP server with the files of a night and a stand-in for ART, and write the settings that name them."""
    machine.run(f"{HEADRACE} sandbox students /srv/night --rows 500 --districts 5 --schools 20 --seed 7")
    machine.run(f"systemd-run --unit=art {HEADRACE} sandbox art --unlimited")
    machine.run(f"systemd-run --unit=sftp {HEADRACE} sandbox sftp /srv/night --keys /srv/keys")
    said = "journalctl --output cat --unit sftp | grep -m 1 ^{"
    wait_until("the sFTP server listens", lambda: machine.attempt(said)[0] == 0, 30)
    login = json.loads(machine.run(said))
    machine.run(f"install -m 400 -o headrace {login['key_file']} /etc/headrace/sftp_key")
    machine.write(SETTINGS_FILE, SETTINGS.format(user=login["user"], fingerprint=login["fingerprint"]))


def all_in_one(machine: Machine) -> None:
    """headrace.service, with the embedded Kafka."""
    say("headrace config check: " + machine.run(commands_of("Set up", 1), within=300).strip().splitlines()[-1])
    machine.run(commands_of("What runs").splitlines()[0])
    say("headrace.service starts; it fetches Kafka's jars")
    add_files(machine, "first", 40)
    wait_until("the first files are there", lambda: same_trees(machine), 300)
    say("headrace.service rebuilds files")

    before = machine.show("headrace", "NRestarts")
    machine.run(f"kill -9 {machine.show('headrace', 'MainPID')}")
    add_files(machine, "second", 40)
    wait_until("systemd starts it again", lambda: machine.show("headrace", "NRestarts") != before, 30)
    wait_until("the next files are there", lambda: same_trees(machine), 120)
    say("killed with SIGKILL, and Kafka with it: it was started again, and goes on")

    machine.run("kill -9 $(pgrep --newest --full '[r]un assembler.copy')")
    add_files(machine, "third", 40)
    wait_until("more files are there", lambda: same_trees(machine), 60)
    say("one of its services was killed: it goes on")

    add_files(machine, "fourth", 400)
    stop(machine, "headrace")
    machine.run(f"test -e {BROKER}/data/.kafka_cleanshutdown")
    machine.run("systemctl start headrace")
    wait_until("all files are there", lambda: same_trees(machine), 120)
    balanced(machine)
    say("stopped while files arrived: nobody was left, Kafka closed in good order; started again, everything balances")


def nightly(machine: Machine) -> None:
    """The timer, made to fire soon, loads the students; the embedded Kafka of headrace.service is shared."""
    machine.run("systemctl start headrace")
    machine.write("/etc/systemd/system/headrace-art-load.timer.d/soon.conf", SOON)
    machine.run("systemctl daemon-reload && systemctl enable --now headrace-art-load.timer")
    wait_until("the timer fires", lambda: machine.show("headrace-art-load", "ExecMainStartTimestamp") != "", 30)
    machine.run("systemctl stop headrace-art-load.timer")
    done = "test $(systemctl show --property ActiveState --value headrace-art-load) = inactive"
    failed = "systemctl is-failed headrace-art-load"

    def ended() -> object:
        if machine.attempt(failed)[0] == 0:
            raise Failed("the load failed: " + machine.run("journalctl --output cat --unit headrace-art-load")[-1500:])
        return machine.attempt(done)[0] == 0

    wait_until("the load is done", ended, 180)
    say("the timer fired: " + machine.run("cat /var/lib/headrace/reports/*.json").replace("\n", " ")[:300])


def one_by_one(machine: Machine) -> None:
    """Single services, with a Kafka of one's own."""
    stop(machine, "headrace")
    machine.run("systemctl disable headrace")
    settings = machine.run(f"cat {SETTINGS_FILE}")
    machine.run(f"{AS_HEADRACE} broker start")
    machine.write(SETTINGS_FILE, settings + KAFKA_OF_ONES_OWN)
    machine.run(f"{AS_HEADRACE} --config {SETTINGS_FILE} topics apply")
    units = ("headrace@directory_source", "headrace@assembler.copy", "headrace@ledger")
    machine.run("systemctl start " + " ".join(units))
    add_files(machine, "fifth", 40)
    wait_until("the files are there", lambda: same_trees(machine), 60)
    for unit in units:
        machine.run(f"kill -9 {machine.show(unit, 'MainPID')}")
    add_files(machine, "sixth", 40)
    for unit in units:
        wait_until(f"{unit} is started again", lambda unit=unit: machine.show(unit, "NRestarts") != "0", 30)
    wait_until("the files are there", lambda: same_trees(machine), 60)
    balanced(machine)
    add_files(machine, "seventh", 200)
    for unit in units:
        stop(machine, unit, alone=False)
    machine.run("systemctl start " + " ".join(units))
    wait_until("the files are there", lambda: same_trees(machine), 60)
    balanced(machine)
    say("single services: killed, started again, drained, and everything balances")

    machine.write(SETTINGS_FILE, settings.replace('root = "/data/copy"', 'root = "relative"\nnothing = 1'))
    machine.attempt("systemctl restart headrace@assembler.copy")
    wait_until("wrong settings end it", lambda: machine.show("headrace@assembler.copy", "ActiveState") == "failed", 30)
    if machine.show("headrace@assembler.copy", "NRestarts") != "0":
        raise Failed("a service with wrong settings is started again and again")
    said = machine.run("journalctl --output cat --unit headrace@assembler.copy | grep ^headrace: | tail -n 1")
    say(f"wrong settings are not tried again: {said.strip()}")
    machine.run(f"systemctl stop 'headrace@*' && {AS_HEADRACE} broker stop")
    machine.write(SETTINGS_FILE, settings)


def add_files(machine: Machine, folder: str, number: int) -> None:
    """Files of many sizes, some empty, some of several chunks."""
    machine.run(
        f"mkdir /data/incoming/{folder} && cd /data/incoming/{folder} && "
        f"for i in $(seq {number}); do head -c $(( i % 20 * 37000 )) /dev/urandom >$i.dat; done"
    )


def same_trees(machine: Machine) -> object:
    """Whether the rebuilt tree equals the one that was sent, byte for byte; else what differs."""
    sums = [machine.run(TREES.format(folder)) for folder in ("incoming", "copy")]
    return sums[0] == sums[1] or f"{len(sums[0].splitlines())} files sent, {len(sums[1].splitlines())} rebuilt"


def balanced(machine: Machine) -> None:
    """See that `headrace verify --deep` says that everything balances at the one destination that runs throughout."""
    machine.run(f"{AS_HEADRACE} --config {SETTINGS_FILE} verify --deep --sink copy", within=180)


def stop(machine: Machine, unit: str, alone: bool = True) -> None:
    """Stop a unit: it must end by itself, in time, and leave no process."""
    began = time.monotonic()
    machine.run(f"systemctl stop {unit}")
    took = time.monotonic() - began
    result = (machine.show(unit, "Result"), machine.show(unit, "ExecMainStatus"))
    if result != ("success", "0"):
        raise Failed(f"{unit} ended with {result}: " + machine.run(f"journalctl --output cat -n 30 --unit {unit}"))
    left = machine.attempt("pgrep --list-full --uid headrace")[1] if alone else ""
    if left:
        raise Failed(f"{unit} left processes: {left}")
    say(f"{unit} stopped within {took:.1f} s")


def main() -> int:
    """Parse the command line, run, and clean up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stand-ins", action="store_true", help=f"build on the local image {STAND_IN}")
    parser.add_argument("--keep", action="store_true", help="leave the container running at the end")
    chosen = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="headrace-systemd-") as folder:
        machine = None
        try:
            say("building the wheel and the machine's image")
            _output([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, str(ROOT)], 300)
            machine = Machine(image(chosen.stand_ins))
            install(machine, next(Path(folder).glob("headrace-*.whl")), chosen.stand_ins)
            outside(machine)
            all_in_one(machine)
            one_by_one(machine)
            # Last: from then on the fan-out has a group, whose books are open whenever no load runs.
            nightly(machine)
            say("passed")
        except Failed as error:
            say(f"FAILED: {error}")
            return 1
        finally:
            if machine is not None and not chosen.keep:
                machine.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
