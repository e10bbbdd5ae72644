"""The newc cpio archive: the form in which the Linux kernel takes its first file system.

An archive is a row of entries, each a 110-octet header of hexadecimal text, a name and a body, both padded to four octets; an
entry called `TRAILER!!!` ends it. `archive` sorts its entries and writes no time, no owner but root and no inode of this machine,
so equal contents give equal octets.

Document: Linux, Documentation/driver-api/early-userspace/buffer-format.rst. Not done: the `070702` form with checksums, hard links
(each entry has an inode of its own), reading.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

from netemu.errors import LocalError

__all__ = ["Entry", "archive", "character_device", "directory", "file", "symlink"]

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_ALIGNMENT = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in the archive. `mode` holds the file type and the permissions, as in `struct stat`; names have no leading slash."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if not self.name or self.name.startswith("/") or "\0" in self.name:
            raise LocalError(f"archive entry {self.name!r}: a relative name is needed, such as bin/sh")


def file(name: str, data: bytes, permissions: int = 0o644) -> Entry:
    return Entry(name, stat.S_IFREG | permissions, data)


def directory(name: str, permissions: int = 0o755) -> Entry:
    return Entry(name, stat.S_IFDIR | permissions)


def symlink(name: str, target: str) -> Entry:
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def character_device(name: str, major: int, minor: int, permissions: int = 0o600) -> Entry:
    return Entry(name, stat.S_IFCHR | permissions, device=(major, minor))


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive of `entries` and of the directories they lie in, whatever order they come in. A name given twice is refused."""
    by_name: dict[str, Entry] = {}
    for entry in entries:
        if entry.name in by_name:
            raise LocalError(f"archive entry {entry.name!r} was given twice; give each name once")
        by_name[entry.name] = entry
    for name in list(by_name):
        while (name := name.rpartition("/")[0]) and name not in by_name:
            by_name[name] = directory(name)
    octets = bytearray()
    for inode, name in enumerate(sorted(by_name), 1):  # a directory sorts before what lies in it, as the kernel needs it
        _append(octets, inode, by_name[name])
    _append(octets, 0, Entry(_TRAILER, 0))
    return bytes(octets)


def _append(octets: bytearray, inode: int, entry: Entry) -> None:
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    name = entry.name.encode() + b"\0"
    uid = gid = mtime = major = minor = check = 0
    fields = (inode, entry.mode, uid, gid, links, mtime, len(entry.data), major, minor, *entry.device, len(name), check)
    octets += _MAGIC + b"".join(b"%08x" % field for field in fields) + name
    _pad(octets)
    octets += entry.data
    _pad(octets)


def _pad(octets: bytearray) -> None:
    octets += b"\0" * (-len(octets) % _ALIGNMENT)
