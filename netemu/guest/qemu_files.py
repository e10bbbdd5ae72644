"""The first file system of a QEMU guest: BusyBox, the drivers of its NIC, and this project's agent with the Python it needs.

/init loads the drivers, calls the interface eth0, starts the agent on one virtio-serial port and is a shell on the other
(`netemu.guest.shell`). What it says before that, and what the kernel says, is for the console. A NIC without an interface, or
without a link, is told there and ends the boot.

IPv6 stays off until the guest has a MAC address of its own, for its link-local address follows from it.
"""

from __future__ import annotations

import functools
import shlex
from pathlib import Path
from typing import Final

from netemu.guest.cpio import archive, file
from netemu.guest.initramfs import AGENT_DESCRIPTOR, READY, userland
from netemu.guest.python_files import HOME, program_files, python_command
from netemu.peers.kernel import Kernel

__all__ = ["AGENT_LOG", "AGENT_PORT", "INTERFACE", "SHELL_PORT", "build"]

INTERFACE: Final = "eth0"
SHELL_PORT: Final = 1  # of the virtio-serial device
AGENT_PORT: Final = 2
AGENT_LOG: Final = "/tmp/agent.log"

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
fail() {{ echo "netemu guest: $1"; poweroff -f; }}
wait_for() {{ # tries of 0.05 s, what for, a test
    tries=$1 what=$2
    shift 2
    until "$@"; do
        : $((tries -= 1))
        [ $tries -gt 0 ] || fail "$what"
        sleep 0.05
    done
}}
named() {{
    for path in /sys/class/net/*; do
        [ $path = /sys/class/net/lo ] || {{ ip link set ${{path##*/}} name {INTERFACE}; return 0; }}
    done
    return 1
}}
linked() {{ read -r carrier </sys/class/net/{INTERFACE}/carrier && [ "$carrier" = 1 ]; }}
for module in %(modules)s; do insmod /{_MODULES}/$module.ko || fail "module $module was refused"; done
echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range
wait_for 200 "its NIC has no driver" named
echo 1 >/proc/sys/net/ipv6/conf/{INTERFACE}/disable_ipv6
ip link set lo up
ip link set {INTERFACE} up
for port in {SHELL_PORT} {AGENT_PORT}; do wait_for 200 "virtio-serial port $port is missing" [ -c /dev/vport0p$port ]; done
exec {AGENT_DESCRIPTOR}<>/dev/vport0p{AGENT_PORT}
%(agent)s <&{AGENT_DESCRIPTOR} >{AGENT_LOG} 2>&1 &
wait_for 200 "its NIC has no link" linked
exec <>/dev/vport0p{SHELL_PORT} >&0 2>&0
echo {READY}
while :; do IFS= read -r line && eval "$line"; done
"""


@functools.cache
def build(busybox: Path, kernel: Kernel, modules: tuple[str, ...]) -> bytes:
    """The archive. `busybox` is a static program, `modules` are those of the NIC; one that is missing is a `LocalError`."""
    loaded = {name: octets for name in (*_BASE_MODULES, *modules) if (octets := kernel.module(name)) is not None}
    imports, program = _AGENT
    agent = shlex.join(python_command(f"{imports}; {program}", HOME))
    init = _INIT % {"modules": " ".join(loaded), "agent": agent}
    return archive(
        [
            *userland(busybox, _LEFT_OUT, init, _FSTAB),
            *(file(f"{_MODULES}/{name}.ko", octets) for name, octets in loaded.items()),
            *program_files(imports),
        ]
    )
