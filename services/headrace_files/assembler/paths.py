"""Which place under the root a name from the network means, if any.

Pure: what the file system itself says (links, folders in the way) is `tree`'s business. What is refused is not named:
a path may be personal, and the words of these errors go into headers of dead letters.
Source: design section 1 rule 7; the device names are those of Microsoft's "Naming Files, Paths, and Namespaces".
"""

from __future__ import annotations

import re

from headrace.errors import PermanentError

WORK_FOLDER = b".headrace"
LONGEST_PATH = 4095 - 256

_DEVICE = re.compile(rb"^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?$", re.IGNORECASE | re.DOTALL)
_DRIVE = re.compile(rb"^[A-Za-z]:")


class UnsafePath(PermanentError):
    """The file's path would leave the folder it belongs in: {problem}. Files are only written inside it."""

    code = "unsafe-path"


class DeviceName(PermanentError):
    """The file's path contains a name that means a device on Windows. Allow it with `device_names = "allow"`."""

    code = "device-name"


class NameTooLong(PermanentError):
    """The file's path is too long for this file system: {problem}."""

    code = "name-too-long"


def parts(path: bytes, *, longest_name: int = 255, allow_devices: bool = False) -> tuple[bytes, ...]:
    """The folder names and the file name of a relative path.

    Parameters:
        longest_name: bytes that the file system takes for one name.

    Raises UnsafePath for absolute paths, "..", ".", empty names, NUL, drive letters and our own work folder;
    DeviceName; NameTooLong.
    """
    found = tuple(path.split(b"/"))
    if path.startswith(b"/"):
        raise UnsafePath(problem="it is absolute")
    if b"\0" in path:
        raise UnsafePath(problem="it contains a NUL byte")
    if any(part in (b"", b".", b"..") for part in found):
        raise UnsafePath(problem='it contains an empty name, "." or ".."')
    if _DRIVE.match(found[0]):
        raise UnsafePath(problem="it begins with a drive letter")
    if found[0] == WORK_FOLDER:
        raise UnsafePath(problem="that folder is Headrace's own")
    if len(path) > LONGEST_PATH:
        raise NameTooLong(problem=f"{len(path)} bytes, at most {LONGEST_PATH} are taken")
    longest = max(len(part) for part in found)
    if longest > longest_name:
        raise NameTooLong(problem=f"a name of {longest} bytes, at most {longest_name} are taken")
    if not allow_devices and any(_DEVICE.match(part.rstrip(b" .")) for part in found):
        raise DeviceName
    return found
