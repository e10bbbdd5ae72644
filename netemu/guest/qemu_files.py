"""The first file system of a QEMU guest: BusyBox, drivers of NICs, and this project's agent with the Python it needs.

/init starts the agent on one virtio-serial port and is a shell on the other (`netemu.guest.shell`). What it says before that, and
what the kernel says, is for the console.

There is no NIC yet: it is plugged in later, and `PLUG` tells the shell to load its drivers, to call the interface eth0 and to wait
for its link. IPv6 stays off until the guest has a MAC address of its own, for its link-local address follows from it.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from netemu.errors import LocalError
from netemu.guest.cpio import Entry, archive, file
from netemu.guest.initramfs import AGENT_DESCRIPTOR, READY, userland
from netemu.guest.nics import NICS
from netemu.guest.python_files import HOME, program_files, python_command
from netemu.peers.kernel import Kernel

__all__ = ["AGENT_LOG", "AGENT_PORT", "INTERFACE", "PLUG", "READDRESS", "SHELL_PORT", "build"]

INTERFACE: Final = "eth0"
SHELL_PORT: Final = 1  # of the virtio-serial device
AGENT_PORT: Final = 2
AGENT_LOG: Final = "/tmp/agent.log"
PLUG: Final = "plug"  # a function of the shell; its arguments are modules
READDRESS: Final = "readdress"  # another; its argument is a MAC address

_MODULES: Final = "lib/modules"
_VIRTIO: Final = ("virtio", "virtio_ring", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci")
_BASE_MODULES: Final = (*_VIRTIO, "virtio_console", "vmgenid")
_AGENT: Final = ("import netemu.guest.agent, netemu.io.loop, netemu.io.oshost", "netemu.guest.agent.run()")
_LEFT_OUT: Final = {"sbin/modprobe"}  # a kernel that finds it spends its boot on it

_FSTAB: Final = """\
proc /proc proc defaults 0 0
sysfs /sys sysfs defaults 0 0
devtmpfs /dev devtmpfs defaults 0 0
"""

_INIT: Final = f"""\
#!/bin/busybox sh
export PATH=/sbin:/usr/sbin:/bin:/usr/bin HOME=/
mount -a
load() {{
    for module; do
        [ -d /sys/module/$module ] || [ ! -e /{_MODULES}/$module.ko ] || insmod /{_MODULES}/$module.ko || return 1
    done
}}
wait_for() {{ # a test, tried for 10 s
    for _ in $(seq 500); do
        "$@" && return 0
        sleep 0.02
    done
    echo "waited in vain: $*"
    return 1
}}
named() {{
    for path in /sys/class/net/*; do
        [ $path = /sys/class/net/lo ] || {{ ip link set ${{path##*/}} name {INTERFACE} && return 0; }}
    done
    return 1
}}
linked() {{ read -r carrier </sys/class/net/{INTERFACE}/carrier && [ "$carrier" = 1 ]; }}
{PLUG}() {{
    load "$@" && wait_for named || return 1
    echo 1 >/proc/sys/net/ipv6/conf/{INTERFACE}/disable_ipv6
    ip link set {INTERFACE} up && wait_for linked
}}
{READDRESS}() {{ # some drivers refuse while the interface is up
    ip link set {INTERFACE} address $1 2>/dev/null && return 0
    ip link set {INTERFACE} down
    ip link set {INTERFACE} address $1
    ip link set {INTERFACE} up && wait_for linked
}}
load {" ".join(_BASE_MODULES)}
echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range
ip link set lo up
wait_for [ -c /dev/vport0p{SHELL_PORT} ] && wait_for [ -c /dev/vport0p{AGENT_PORT} ] || poweroff -f
exec {AGENT_DESCRIPTOR}<>/dev/vport0p{AGENT_PORT}
%(agent)s <&{AGENT_DESCRIPTOR} >{AGENT_LOG} 2>&1 &
exec <>/dev/vport0p{SHELL_PORT} >&0 2>&0
echo {READY}
while :; do IFS= read -r line && eval "$line"; done
"""


@functools.cache
def build(busybox: Path, kernel: Kernel) -> bytes:
    """The archive. `busybox` is a static program. A driver of a NIC that the kernel does not have is left out."""
    imports, program = _AGENT
    init = _INIT % {"agent": shlex.join(python_command(f"{imports}; {program}", HOME))}
    drivers = sorted({module for nic in NICS.values() for module in nic.modules})
    return archive(
        [
            *userland(busybox, _LEFT_OUT, init, _FSTAB),
            *_module_files(kernel, _BASE_MODULES),
            *_module_files(kernel, drivers, optional=True),
            *program_files(imports),
        ]
    )


def _module_files(kernel: Kernel, names: Iterable[str], *, optional: bool = False) -> Iterator[Entry]:
    for name in names:
        try:
            octets = kernel.module(name)
        except LocalError:
            if not optional:
                raise
            continue
        if octets is not None:
            yield file(f"{_MODULES}/{name}.ko", octets)
