"""BusyBox, the user land of real guests: where it is, and what can be made of it.

One static program is a shell, `ip`, `udhcpc`, `nslookup` and some 270 other commands (its applets). Debian's package
busybox-static has it; a dynamic one (Debian's busybox) serves a namespace but cannot be the only file of an initramfs.
Its shell prefers its own applets to programs in PATH, so a script means the same wherever it runs.
"""

from __future__ import annotations

import functools
import shutil
import struct
import subprocess
from pathlib import Path

from netemu.errors import HostError, LocalError

__all__ = ["PACKAGE", "applets", "find_busybox", "is_static", "probe"]

PACKAGE = "busybox-static"  # Debian's name

_ELF64_HEADER = struct.Struct("<4s28xQQ6xHH")  # magic ... e_phoff, e_shoff (unused), ... e_phentsize, e_phnum (elf(5))
_PT_INTERP = 3


def find_busybox() -> Path:
    """Where busybox is; `LocalError` if it is not installed."""
    found = shutil.which("busybox")
    if found is None:
        raise LocalError(f"busybox is not in PATH: install the Debian package {PACKAGE}")
    return Path(found)


def probe(*, static: bool = False) -> str | None:
    """Why there is no (static) busybox here, in one sentence; None if there is."""
    try:
        path = find_busybox()
    except LocalError as error:
        return str(error)
    if static and not is_static(path):
        return f"{path} is linked dynamically: install the Debian package {PACKAGE}"
    return None


@functools.cache
def applets(busybox: Path) -> tuple[str, ...]:
    """The names under which this busybox wants to be found, such as `sbin/ip`, sorted."""
    listing = subprocess.run([busybox, "--list-full"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if listing.returncode:
        raise HostError(0, f"{busybox} --list-full gave status {listing.returncode}: {listing.stderr.strip()}")
    return tuple(sorted(listing.stdout.split()))


def is_static(program: Path) -> bool:
    """Whether a 64-bit ELF file asks for no dynamic linker."""
    with program.open("rb") as file:
        magic, first, _, size, count = _ELF64_HEADER.unpack(file.read(_ELF64_HEADER.size))
        if magic != b"\x7fELF":
            return False
        for number in range(count):
            file.seek(first + number * size)
            if int.from_bytes(file.read(4), "little") == _PT_INTERP:
                return False
    return True
