"""Debian's kernels as peers, such as `kernel@trixie`: an image that QEMU starts directly, and its modules.

A kernel's package is unpacked, never installed (`netemu.peers.root`). What is in /boot is a bzImage: a little program that unpacks
the kernel. QEMU can start the kernel itself, through PVH, which saves a guest under TCG a second; so `image` is the ELF file taken
out of it, kept in the user's cache. Debian compresses it with XZ (Debian 12) or Zstandard (Debian 13, for which zstd(1) is needed).

Document: Linux, Documentation/arch/x86/boot.rst (the header, `setup_sects`, `payload_offset`, `payload_length`).
"""

from __future__ import annotations

import lzma
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from netemu.errors import LocalError
from netemu.peers.root import Peer, cache_directory, locate

__all__ = ["Kernel", "extract_image", "find_kernel"]

_HEADER: Final = struct.Struct("<4sH")  # magic, version of the boot protocol
_HEADER_AT: Final = 0x202
_SETUP_SECTS_AT: Final = 0x1F1
_PAYLOAD: Final = struct.Struct("<II")  # offset after the setup code, length
_PAYLOAD_AT: Final = 0x248
_SECTOR: Final = 512
_SIZE: Final = 4  # octets behind the compressed kernel, which say how long it will be
_ELF: Final = b"\x7fELF"
_MISSING: Final = Path()


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel of Debian's: its release (`6.12.107+deb13-amd64`), the ELF image, and where its modules lie."""

    release: str
    image: Path
    modules: Path

    @property
    def version(self) -> str:
        """The version of Linux alone."""
        return re.split(r"[+-]", self.release)[0]

    def module(self, name: str) -> bytes | None:
        """The module `name` (hyphens and underscores are one), unpacked; None if it is built in. Missing: `LocalError`."""
        path = _index(self.modules).get(_normal(name), _MISSING)
        if path is _MISSING:
            raise LocalError(f"Linux {self.release} has no module {name}: take another kernel, or do without what needs it")
        if path is None:
            return None
        octets = path.read_bytes()
        return lzma.decompress(octets) if path.suffix == ".xz" else octets


@cache
def _index(modules: Path) -> dict[str, Path | None]:
    """Where each module is; None for one that is built in."""
    files = {_normal(path.name.partition(".ko")[0]): path for path in modules.rglob("*.ko*")}
    built_in = (modules / "modules.builtin").read_text().split()
    return files | {_normal(Path(line).stem): None for line in built_in}


def _normal(module: str) -> str:
    return module.replace("-", "_")


def find_kernel(name: str) -> Kernel:
    """The kernel called `kernel@suite`; `LocalError` if it is missing or broken."""
    peer = locate(name)
    if peer.program != "kernel":
        raise LocalError(f"{name!r} is no kernel: name Debian's release, as in kernel@trixie")
    reason = peer.missing()
    if reason:
        raise LocalError(reason)
    found = sorted(peer.root.glob("boot/vmlinuz-*"))
    if not found:
        raise LocalError(f"{peer.root} has no kernel in boot: remove that directory, then netemu peers install {peer}")
    release = found[-1].name.removeprefix("vmlinuz-")
    return Kernel(release, _image(peer, found[-1]), _modules(peer, release))


def _modules(peer: Peer, release: str) -> Path:
    """Where its modules are: in /lib, which is a part of /usr from Debian 13 on."""
    older = peer.root / "lib/modules" / release
    return older if older.is_dir() else peer.root / "usr/lib/modules" / release


def _image(peer: Peer, bzimage: Path) -> Path:
    """The ELF image, extracted once: written beside its place, then renamed."""
    image = cache_directory("kernels") / f"{peer.root.name}-{bzimage.name}.elf"
    if not image.is_file():
        image.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=image.parent) as place:
            part = Path(place) / image.name
            part.write_bytes(extract_image(bzimage.read_bytes(), str(bzimage)))
            part.rename(image)
    return image


def extract_image(bzimage: bytes, name: str) -> bytes:
    """The ELF file in a bzImage; `LocalError` for what is none, or is compressed in a way that cannot be undone here."""
    if len(bzimage) < _PAYLOAD_AT + _PAYLOAD.size or _HEADER.unpack_from(bzimage, _HEADER_AT)[0] != b"HdrS":
        raise LocalError(f"{name} is no bzImage; have the package unpacked again")
    offset, length = _PAYLOAD.unpack_from(bzimage, _PAYLOAD_AT)
    start = (bzimage[_SETUP_SECTS_AT] + 1) * _SECTOR + offset
    payload = bzimage[start : start + length - _SIZE]
    for magic, unpack in _COMPRESSIONS.items():
        if payload.startswith(magic):
            try:
                image = unpack(payload)
            except (lzma.LZMAError, subprocess.CalledProcessError) as error:
                raise LocalError(f"{name} is damaged ({error}); have the package unpacked again") from None
            if image.startswith(_ELF):
                return image
    raise LocalError(f"{name} holds no ELF image compressed with XZ or Zstandard; take one of Debian's kernels")


def _unzstd(octets: bytes) -> bytes:
    program = shutil.which("zstd")
    if program is None:
        raise LocalError("zstd is not in PATH: install the Debian package zstd")
    return subprocess.run([program, "-dcq"], input=octets, capture_output=True, check=True).stdout


_COMPRESSIONS: Final[dict[bytes, Callable[[bytes], bytes]]] = {b"\xfd7zXZ\0": lzma.decompress, b"\x28\xb5\x2f\xfd": _unzstd}
