"""Leaving a group ends, whatever the client does."""

from __future__ import annotations

import subprocess
import sys

# The client's close waits in C and keeps the interpreter's lock, as PyDLL does.
LEAVE = """
import ctypes
from types import SimpleNamespace
from headrace.stage.membership import Membership
client = SimpleNamespace(close=lambda: ctypes.PyDLL(None).sleep(60))
Membership.leave(SimpleNamespace(consumer=client, _placement=SimpleNamespace(close=lambda: None)), 0.2)
"""


def test_a_process_ends_whose_client_hangs_with_the_lock_of_the_interpreter_while_it_closes():
    run = subprocess.run([sys.executable, "-c", LEAVE], capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 1
    assert "in leave" in run.stderr
