"""One folder tree on disk: partial files, and how a verified one gets its name for good.

A file is written as `<root>/.headrace/<file id>`, on the same file system, never truncated: its content follows from
the id, so a zombie and the new owner converge. Then: verified, synced, renamed, folders synced, receipt.
Source: design section 4, "Files".
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

from headrace.errors import ConfigError, HeadraceError, RefusedError, TransientError
from headrace.stage.contract import BeginAnew
from headrace_files.assembler.paths import WORK_FOLDER, NameTooLong, UnsafePath

# Up to this many files, one fsync each is cheaper than syncing the whole file system.
FEW = 4
MOST_OPEN_FOLDERS = 64
_TRY_AGAIN = frozenset(
    {errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE,
     errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT, errno.EBUSY, errno.EAGAIN, errno.EINTR}
)  # fmt: skip


OTHER_FILE_SYSTEM = (
    "another file system is there than before; mount the right one, or start the service again to use this one"
)

Identity = tuple[int, int]
"""Device and inode: which folder it is, whatever its name."""


class NoTree(ConfigError):
    """The folder {root} cannot be used: {problem}. Create it, or give the service the right to."""

    code = "no-tree"


class DiskUnwell(TransientError):
    """The file system of {root} is unwell: {problem}; trying again in {retry_after} s."""

    code = "disk-unwell"
    default_retry_after = 2.0


class RootGone(TransientError):
    """The folder {root} cannot be used: {problem}. Nothing is written until it is there again; looking again in {retry_after} s."""  # noqa: E501

    code = "root-gone"
    default_retry_after = 2.0


class RootReplaced(BeginAnew):
    """Under the name {root} is another folder now, or its {work} was taken away; the stage begins anew in what is there, and rebuilds what it had begun."""  # noqa: E501

    code = "root-replaced"


class PartialVanished(BeginAnew):
    """The partial file {item} under {root} vanished before it was named; the stage begins anew and rebuilds it."""

    code = "partial-vanished"


class InTheWay(RefusedError):
    """Something that is there already is in the way of the file in {destination}: {problem}."""

    code = "in-the-way"


class Tree:
    """A root folder, made if it is missing.

    Parameters:
        device: the file system that the root was on before: it must be there on that one, and is not made.

    Raises NoTree if it cannot be made or written; with `device` RootGone.

    Methods that touch the disk raise DiskUnwell for what may pass (no space, no permission, an I/O error), and RootGone
    or RootReplaced where the root is no longer the folder that was opened.
    """

    def __init__(self, root: Path, device: int | None = None) -> None:
        # It may be a link, which may be pointed elsewhere.
        self._given = root.absolute()
        self.root = os.fsencode(self._given)
        try:
            if device is None:
                self._given.mkdir(parents=True, exist_ok=True)
            self.root = os.path.realpath(self.root)
            self._root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._work = self._open_work(device)
            except (OSError, RootGone):
                os.close(self._root)
                raise
            self._identities = _identity(os.fstat(self._root)), _identity(os.fstat(self._work))
            self.longest_name = os.fpathconf(self._root, "PC_NAME_MAX")
        except OSError as error:
            failure = NoTree if device is None else RootGone
            raise failure(root=os.fsdecode(self.root), problem=error.strerror) from error
        self._syncfs = ctypes.CDLL(None, use_errno=True).syncfs
        self._folders: OrderedDict[tuple[bytes, ...], tuple[int, Identity]] = OrderedDict()

    def _open_work(self, device: int | None) -> int:
        if device not in (None, os.fstat(self._root).st_dev):
            raise RootGone(root=os.fsdecode(self.root), problem=OTHER_FILE_SYSTEM)
        try:
            os.mkdir(WORK_FOLDER, 0o700, dir_fd=self._root)
        except FileExistsError:
            pass
        return os.open(WORK_FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self._root)

    @property
    def device(self) -> int:
        """The file system that the root was opened on."""
        return self._identities[0][0]

    def look(self) -> None:
        """See that the root and its folder of partial files are those that were opened.

        Raises RootGone, RootReplaced.
        """
        root, work = self._identities
        try:
            found = self._given.stat()
        except OSError as error:
            raise RootGone(root=os.fsdecode(self.root), problem=error.strerror) from error
        try:
            if _identity(found) == root and _identity(os.stat(WORK_FOLDER, dir_fd=self._root)) == work:
                return
        except OSError:
            # Gone, or stale: an old handle of a network file system that was mounted again.
            pass
        # Not even with a folder of partial files of its own: the service may have run once before the mount.
        if found.st_dev != root[0]:
            raise RootGone(root=os.fsdecode(self.root), problem=OTHER_FILE_SYSTEM)
        raise RootReplaced(root=os.fsdecode(self.root), work=os.fsdecode(WORK_FOLDER))

    def close(self) -> None:
        """Give up all descriptors."""
        for handle in (*(handle for handle, _ in self._folders.values()), self._work, self._root):
            os.close(handle)
        self._folders.clear()

    def open_partial(self, item: str) -> int:
        """A descriptor of the item's partial file, made if it is not there, as it is if it is."""
        try:
            return os.open(item, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=self._work)
        except OSError as error:
            raise self.failure(error) from error

    def open_finished(self, item: str, size: int) -> int:
        """A descriptor of the item's partial file, which must be there with at least `size` bytes; cut to that length.

        Raises PartialVanished if it is not: its bytes were there, so somebody has taken them away.
        """
        try:
            handle = os.open(item, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._work)
        except FileNotFoundError as error:
            self.look()
            raise PartialVanished(item=item, root=os.fsdecode(self.root)) from error
        except OSError as error:
            raise self.failure(error) from error
        found = os.fstat(handle).st_size
        if found < size:
            os.close(handle)
            raise PartialVanished(item=item, root=os.fsdecode(self.root))
        if found > size:
            os.ftruncate(handle, size)
        return handle

    def remove_partial(self, item: str) -> None:
        """Delete the item's partial file, if there is one."""
        try:
            os.unlink(item, dir_fd=self._work)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self.failure(error) from error

    def stale_partials(self, older_than: float) -> list[str]:
        """Partial files that nobody has written to since `older_than`, in seconds since the epoch."""
        stale = []
        try:
            with os.scandir(self._work) as entries:
                for entry in entries:
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if stat.S_ISREG(found.st_mode) and found.st_mtime < older_than:
                        stale.append(entry.name)
        except OSError as error:
            raise self.failure(error) from error
        return stale

    def sync(self, handles: Sequence[int]) -> None:
        """Make the content of these files durable."""
        try:
            if len(handles) <= FEW:
                for handle in handles:
                    os.fsync(handle)
            else:
                self._sync_all()
        except OSError as error:
            raise self.failure(error) from error

    def sync_folders(self, folders: Iterable[tuple[bytes, ...]]) -> None:
        """Make the names in these folders durable."""
        wanted = {folder[:length] for folder in folders for length in range(len(folder) + 1)}
        try:
            if len(wanted) <= FEW:
                for folder in wanted:
                    os.fsync(self._folder(folder))
            else:
                self._sync_all()
        except OSError as error:
            raise self.failure(error) from error

    def place(self, item: str, name: tuple[bytes, ...]) -> None:
        """Give the item's partial file its name, atomically; folders are made where they are missing.

        Raises UnsafePath if a link on the way leads out of the root, InTheWay if a folder or file bars the way,
        NameTooLong, PartialVanished.
        """
        self._let_go_if_moved(name[:-1])
        for _ in range(2):
            folder = self._folder(name[:-1])
            try:
                os.rename(item, name[-1], src_dir_fd=self._work, dst_dir_fd=folder)
            except FileNotFoundError:
                # The folder was deleted under us: it is made again, once.
                self.look()
                self._forget(name[:-1])
            except IsADirectoryError as error:
                raise self._in_the_way("a folder has that name") from error
            except OSError as error:
                raise self._naming_failure(error) from error
            else:
                return
        raise PartialVanished(item=item, root=os.fsdecode(self.root))

    def location(self, name: tuple[bytes, ...]) -> bytes:
        """The absolute path of a name."""
        return b"/".join((self.root.rstrip(b"/"), *name))

    def failure(self, error: OSError) -> HeadraceError:
        """What an operating system error means for the service."""
        try:
            self.look()
        except HeadraceError as found:
            return found
        return DiskUnwell(root=os.fsdecode(self.root), problem=error.strerror or str(error))

    def _sync_all(self) -> None:
        if self._syncfs(self._root):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def _folder(self, name: tuple[bytes, ...]) -> int:
        if not name:
            return self._root
        known = self._folders.get(name)
        if known is not None:
            self._folders.move_to_end(name)
            return known[0]
        handle = self._walk(name)
        self._folders[name] = handle, _identity(os.fstat(handle))
        if len(self._folders) > MOST_OPEN_FOLDERS:
            os.close(self._folders.popitem(last=False)[1][0])
        return handle

    def _let_go_if_moved(self, name: tuple[bytes, ...]) -> None:
        """A folder that is open stays open when it is moved away, and would take files with it."""
        known = self._folders.get(name)
        if known is None and name:
            return
        identity = known[1] if known is not None else self._identities[0]
        try:
            if _identity(os.stat(self.location(name))) == identity:  # noqa: PTH116 - for every file
                return
        except OSError:
            # Whatever it is, it will be met again where the folder is opened.
            pass
        self.look()
        # Any of those above it may be the one that was moved; they are synced by what is open, too.
        self._forget(name[:1])

    def _forget(self, name: tuple[bytes, ...]) -> None:
        for folder in [known for known in self._folders if known[: len(name)] == name]:
            os.close(self._folders.pop(folder)[0])

    def _walk(self, name: tuple[bytes, ...]) -> int:
        """Open a folder step by step, so that no link can lead out of the root unseen."""
        handle = os.dup(self._root)
        try:
            for depth, part in enumerate(name):
                try:
                    try:
                        os.mkdir(part, dir_fd=handle)
                    except FileExistsError:
                        pass
                    inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
                except OSError as error:
                    if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                        raise self._naming_failure(error) from error
                    inner = self._through_link(name[: depth + 1], error)
                os.close(handle)
                handle = inner
        except HeadraceError:
            os.close(handle)
            raise
        return handle

    def _through_link(self, name: tuple[bytes, ...], error: OSError) -> int:
        """A link that stays inside the root may be followed; one that leaves it, and a file, may not."""
        place = self.location(name)
        if not Path(os.fsdecode(place)).is_symlink():
            raise self._in_the_way("a file has the name of one of its folders") from error
        target = os.path.realpath(place)
        if target != self.root and not target.startswith(self.root.rstrip(b"/") + b"/"):
            raise UnsafePath(problem="a symbolic link leads out of it") from error
        try:
            return os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as failure:
            raise self._in_the_way("a symbolic link leads nowhere") from failure

    def _in_the_way(self, problem: str) -> InTheWay:
        return InTheWay(destination=os.fsdecode(self.root), problem=problem)

    def _naming_failure(self, error: OSError) -> HeadraceError:
        if error.errno == errno.ENAMETOOLONG:
            return NameTooLong(problem="the file system refuses it")
        if error.errno in _TRY_AGAIN or error.errno is None:
            return self.failure(error)
        return self._in_the_way(error.strerror or "unknown error")


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino
