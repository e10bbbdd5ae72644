"""Which version a peer is, whatever it is: what it says of itself, or what its package is called."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Final

from netemu.peers import kernel, passt, qemu
from netemu.peers.root import Peer

__all__ = ["version"]

_CHANGELOG: Final = "usr/share/doc/{package}/changelog.Debian.gz"
_ENTRY: Final = re.compile(rb"\S+ \((\S+)\)")

_SAYS: Final[dict[str, Callable[[Peer], str]]] = {
    "passt": passt.version,
    "qemu": lambda peer: qemu.find_qemu(str(peer)).version,
    "kernel": lambda peer: kernel.find_kernel(str(peer)).release,
}


def version(peer: Peer) -> str:
    """The version of a peer that is not `missing`."""
    return _SAYS.get(peer.program, _of_package)(peer)


def _of_package(peer: Peer) -> str:
    """A root's packages are unpacked, and no database knows them: their changelogs begin with the version."""
    if peer.suite is not None:
        with gzip.open(peer.root / _CHANGELOG.format(package=peer.package)) as changelog:
            found = _ENTRY.match(changelog.readline())
        return found[1].decode() if found else "unknown version"
    if shutil.which("dpkg-query") is None:
        return "unknown version"
    query = ["dpkg-query", "--show", "--showformat=${Version}", peer.package]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout or "unknown version"
