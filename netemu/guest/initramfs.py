"""The first file system of a real guest: BusyBox and three small files, made here and never written to a disk.

`build` is a pure function of the busybox program, so equal programs give equal archives; one is kept. `open_initramfs` gives the
archive as a file in memory (memfd_create(2)): a guest opens it as /dev/fd/N, which works where no directory can be written.

The guest's /init mounts what /etc/fstab says, moves to the console that the kernel's command line calls `shell`, opens the one
called `agent` and keeps it open (User-mode Linux closes its descriptor with the last reader), says `READY`, and then is a shell
without a prompt: it evaluates one line of its console after the other. When that ends the machine is switched off.

Applets that load modules are left out: there are no modules here, and a kernel that finds modprobe spends 0.2 s of its boot on it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from netemu.guest import udhcpc
from netemu.guest.busybox import applets
from netemu.guest.cpio import Entry, archive, character_device, directory, file, symlink

__all__ = ["AGENT_DESCRIPTOR", "HOST_ROOT", "READY", "UDHCPC_SCRIPT", "build", "open_initramfs", "userland"]

READY = "netemu guest: ready"
AGENT_DESCRIPTOR = 3  # of the shell: the console the agent uses
HOST_ROOT = "/host"  # where User-mode Linux shows the files of the machine it runs on
UDHCPC_SCRIPT = "/etc/udhcpc/default.script"

_BUSYBOX = "bin/busybox"
_LOADING = {"sbin/modprobe", "sbin/insmod", "sbin/rmmod", "sbin/depmod"}

_FSTAB = f"""\
proc /proc proc defaults 0 0
sysfs /sys sysfs defaults 0 0
tmpfs /tmp tmpfs defaults 0 0
devtmpfs /dev devtmpfs defaults 0 0
none {HOST_ROOT} hostfs ro 0 0
"""

_INIT = f"""\
#!/bin/busybox sh
mount -a
exec <$shell >$shell 2>&1 {AGENT_DESCRIPTOR}<>$agent
stty raw -echo
export PATH=/sbin:/usr/sbin:/bin:/usr/bin HOME=/
echo {READY}
while IFS= read -r line; do eval "$line"; done
poweroff -f
"""


@functools.cache
def build(busybox: Path) -> bytes:
    """The archive. `busybox` is a static program."""
    return archive([*userland(busybox, _LOADING, _INIT, _FSTAB), directory(HOST_ROOT[1:])])


def userland(busybox: Path, left_out: Collection[str], init: str, fstab: str) -> Iterator[Entry]:
    """What every guest has: BusyBox, under all its names but those `left_out`, `init`, `fstab`, and the event script of udhcpc."""
    yield file(_BUSYBOX, busybox.read_bytes(), 0o755)
    yield from (symlink(name, f"/{_BUSYBOX}") for name in applets(busybox) if name not in (_BUSYBOX, *left_out))
    yield file("init", init.encode(), 0o755)
    yield file("etc/fstab", fstab.encode())
    yield file(UDHCPC_SCRIPT[1:], udhcpc.SCRIPT.encode(), 0o755)
    yield character_device("dev/console", 5, 1)
    yield from map(directory, ("proc", "sys", "tmp"))


def open_initramfs(busybox: Path) -> BinaryIO:
    """The archive as a file in memory, the caller's to close once the guest has inherited it."""
    memory = os.fdopen(os.memfd_create("netemu-initramfs", os.MFD_CLOEXEC), "wb")
    memory.write(build(busybox))
    memory.flush()
    return memory
