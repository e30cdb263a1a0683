"""Receipts: what became of an item. The books are sums over them, as sets. Source: design sections 1 and 9."""

from __future__ import annotations

import time
from collections.abc import Sequence

from headrace.events import Covers, Outcome, UploadAck
from headrace.keys import Key
from headrace.stage.contract import Message

_WORST_FIRST: tuple[Outcome, ...] = ("failed", "dead_lettered", "held", "delivered", "unchanged")


def receipt_key(path: str, group: str, item: str) -> Key:
    """The key of a receipt: the first part of the input's key, the group, the item."""
    return (path, group, item)


def worst(covers: Sequence[Covers]) -> Covers:
    """The worst part of a receipt that covers parts of an item with different outcomes: it is as good as that."""
    return min(covers, key=lambda each: (_WORST_FIRST.index(each.outcome), each.code or ""))


def settle(
    group: str,
    first: Message,
    last: int,
    outcome: Outcome,
    *,
    code: str | None = None,
    file: bytes | None = None,
    job: str | None = None,
    where: str | None = None,
    alg: str | None = None,
    hash: bytes | None = None,  # noqa: A002 - the field's name on the wire
    size: int | None = None,
    etag: str | None = None,
    version: str | None = None,
    ctime_ns: int | None = None,
) -> UploadAck:
    """A receipt that covers the whole item which `first` opened, up to and with offset `last`.

    Of an item that was re-driven it begins where the item first came, so that an old version does not look newer.

    An aborted or superseded version is `unchanged` with its code: `failed` asks the source for more.
    """
    return UploadAck(
        group=group,
        item=first.item,
        job=job,
        file=file,
        partition=first.partition.number,
        first=first.order,
        last=last,
        covers=[Covers(outcome=outcome, code=code)],
        where=where,
        alg=alg,
        hash=hash,
        size=size,
        etag=etag,
        version=version,
        ctime_ns=ctime_ns,
        at=time.time_ns() // 1000,
    )
