"""Which version of a path is on its way to the plain name."""

from __future__ import annotations


class Claims:
    """Names in use by versions on their way: the first in log order has the plain one, others go beside it."""

    def __init__(self) -> None:
        self._by_name: dict[str, str] = {}
        self._by_item: dict[str, str] = {}

    def claim(self, name: str, item: str) -> bool:
        """Take `name` for `item`; False if another item has it."""
        if self._by_name.setdefault(name, item) != item:
            return False
        self._by_item[item] = name
        return True

    def release(self, item: str) -> None:
        """The item is settled."""
        name = self._by_item.pop(item, None)
        if name is not None:
            del self._by_name[name]
