"""Headers of dead letters hold no personal data, whatever error put a message aside."""

from __future__ import annotations

import importlib
import io
import pkgutil
import string
from collections.abc import Callable, Iterator

import msgpack
import pytest

from headrace import deadletter
from headrace.chunks import frames
from headrace.codec import avro
from headrace.datasets.catalogue import Datasets
from headrace.datasets.content import members
from headrace.datasets.selection import Selection
from headrace.errors import HeadraceError, PermanentError
from headrace.events import FileEvent, UploadAck
from headrace.keys import decode_key
from headrace_files.archiver.naming import Naming
from headrace_files.assembler.paths import parts
from headrace_files.assembler.tree import Tree
from headrace_files.openmsi.layout import decode as decode_openmsi

PERSON = "Jane-Roe-1234567"

HARMLESS = frozenset(
    {
        # Numbers.
        "bad", "before", "found", "index", "length", "limit", "line", "longest", "offset", "position", "rows",
        "seconds", "share", "size", "status", "total", "wanted",
        # Words of our own declarations, settings and code.
        "column", "dataset", "destination", "encoding", "endpoint", "error", "event", "field", "fields", "kind",
        "seems", "stage", "state", "what",
        # Ids of schemas, schools and districts; members of archives are named by number.
        "entity_id", "fingerprint", "id", "member", "parent_id",
        # Words that the code chooses: see the test of those that come from the network, below. `name` is an option's.
        "name", "problem",
    }
)  # fmt: skip
"""Details that the words of an error may repeat in a header, with the reason. Paths and values are not among them."""

# What only sources raise: they read no topic, so they put nothing aside.
OF_SOURCES = ("headrace_files.sftp_source.", "headrace_files.directory_source.", "headrace_files.sending.")


def every_permanent_error() -> Iterator[type[PermanentError]]:
    for name in ("headrace", "headrace_files", "headrace_art", "headrace_ops"):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    found: list[type[PermanentError]] = [PermanentError]
    for each in found:
        found.extend(kind for kind in each.__subclasses__() if kind not in found)
    ours = ("headrace.", "headrace_files.", "headrace_art.", "headrace_ops.")
    return (each for each in found if each.__module__.startswith(ours) and not each.__module__.startswith(OF_SOURCES))


def test_no_error_that_becomes_a_dead_letter_repeats_a_detail_that_may_be_personal():
    personal = {
        f"{error.__module__}.{error.__name__}": unknown
        for error in every_permanent_error()
        if (unknown := {name for _, name, _, _ in string.Formatter().parse(error.__doc__ or "") if name} - HARMLESS)
    }
    assert personal == {}


def read_archive(raw: bytes) -> None:
    for member in members(io.BytesIO(raw)):
        while member.read(65536):
            pass


RAISERS: dict[str, Callable[[], object]] = {
    "a frame with a field of another type": lambda: frames.decode(
        msgpack.packb({"v": 1, "k": "open", "source": PERSON, "path": {PERSON: PERSON}, "meta": {PERSON: 1}})
    ),
    "a frame of another kind": lambda: frames.decode(msgpack.packb({"v": 1, "k": PERSON})),
    "a value that is no frame": lambda: frames.decode(PERSON.encode()),
    "a value that is no event": lambda: avro.decode(PERSON.encode(), FileEvent),
    "an event that is cut": lambda: avro.decode(
        avro.encode(UploadAck(group=PERSON, item=PERSON, partition=0, first=0, last=0, covers=[], at=1))[:-3], UploadAck
    ),
    "a key": lambda: decode_key(f"%ff{PERSON}".encode()),
    "an absolute path": lambda: parts(f"/{PERSON}".encode()),
    "a path that leaves its folder": lambda: parts(f"../{PERSON}".encode()),
    "a path with a device": lambda: parts(f"{PERSON}/nul".encode()),
    "a path that is too long": lambda: parts(PERSON.encode() * 100),
    "an object's name": lambda: Naming().names(PERSON, f"../{PERSON}".encode(), 0, "00" * 16),
    "a damaged archive": lambda: read_archive(b"PK\x03\x04" + PERSON.encode()),
    "an encoding that nobody knows": lambda: Selection(encoding=PERSON).dataset(Datasets()["art_students"]),
    "a delimiter of many letters": lambda: Selection(delimiter=PERSON).dataset(Datasets()["art_students"]),
    "a message that OpenMSIStream did not write": lambda: decode_openmsi(msgpack.packb([PERSON] * 9)),
}


@pytest.mark.parametrize("raiser", RAISERS.values(), ids=RAISERS.keys())
def test_what_comes_from_the_network_is_not_repeated_in_a_header(raiser):
    with pytest.raises(HeadraceError) as caught:
        raiser()
    assert PERSON not in told(caught.value)


def test_what_is_in_the_way_of_a_file_is_not_named_in_a_header(tmp_path):
    tree = Tree(tmp_path / "root")
    (tmp_path / "root" / PERSON).write_bytes(b"in the way")
    (tmp_path / "root" / f"{PERSON}-link").symlink_to(tmp_path)
    try:
        for folder in (PERSON, f"{PERSON}-link", PERSON * 100):
            with pytest.raises(PermanentError) as caught:
                tree.place("00" * 16, (folder.encode(), b"x"))
            assert PERSON not in told(caught.value)
    finally:
        tree.close()


def told(error: HeadraceError) -> str:
    headers = deadletter.headers(
        topic="chunks", partition=0, offset=1, timestamp=1, service="g", stage="s", error=error, item="i",
        original=[("name", PERSON.encode())],
    )  # fmt: skip
    return "\n".join(f"{name}: {value.decode()}" for name, value in headers)
