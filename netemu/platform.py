"""What this machine can do for netemu, each answer with the words to report it by.

A probe tries the thing itself, without side effects and in well under a second: it opens the device, makes the namespace, loads the
library. `PROBES` is what is known here; a probe's `words` say what was found or what is missing, its `mend` what to do about it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

__all__ = ["PROBES", "Finding"]

_PING_GROUP_RANGE: Final = Path("/proc/sys/net/ipv4/ping_group_range")


@dataclass(frozen=True, slots=True)
class Finding:
    """A probe's answer: whether it works, in words, and (if it does not) how to mend it; `mend` may be empty."""

    works: bool
    words: str
    mend: str = ""


def _root() -> Finding:
    user = os.geteuid()
    return Finding(user == 0, f"effective user id {user}", "" if user == 0 else "run as root, or in a user namespace (unshare -Ur)")


def _opens(device: str, mend: str) -> Finding:
    try:
        os.close(os.open(device, os.O_RDWR))
    except OSError as error:
        return Finding(works=False, words=f"{device}: {error.strerror}", mend=mend)
    return Finding(works=True, words=f"{device} opens")


def _program(name: str, package: str) -> Finding:
    path = shutil.which(name)
    return (
        Finding(works=True, words=path)
        if path
        else Finding(works=False, words=f"{name} is not in PATH", mend=f"apt-get install {package}")
    )


def _user_namespaces() -> Finding:
    try:
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "true"], capture_output=True, text=True, timeout=10, check=False
        )
    except OSError as error:
        return Finding(works=False, words=f"unshare: {error.strerror}", mend="apt-get install util-linux")
    if done.returncode:
        return Finding(
            works=False, words=done.stderr.strip(), mend="sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000"
        )
    return Finding(works=True, words="unshare --user works")


def _network_namespaces() -> Finding:
    from netemu.io.namespace import probe_namespace

    return Finding(*probe_namespace())


def _ping_group_range() -> Finding:
    try:
        low, high = _PING_GROUP_RANGE.read_text().split()
    except OSError as error:
        return Finding(works=False, words=f"{_PING_GROUP_RANGE}: {error.strerror}")
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close()
    except OSError as error:
        words = f"{low} {high}: nobody here may open ping sockets ({error.strerror})"
        return Finding(works=False, words=words, mend='sysctl net.ipv4.ping_group_range="0 2147483647"')
    return Finding(works=True, words=f"{low} {high}: ping sockets open")


def _qemu() -> Finding:
    from netemu.guest.qemu import QemuGuest

    reason = QemuGuest.probe()
    if reason is None:
        return Finding(works=True, words=QemuGuest.version())
    return Finding(works=False, words=reason, mend="apt-get install qemu-system-x86; netemu peers install kernel@trixie")


def _libslirp() -> Finding:
    from netemu.peers import libslirp

    reason = libslirp.probe()
    try:
        version = libslirp.version()
    except OSError:
        return Finding(works=False, words=str(reason), mend="apt-get install libslirp0")
    return (
        Finding(works=True, words=f"version {version}")
        if reason is None
        else Finding(works=False, words=f"version {version}; {reason}")
    )


def _time_travel_kernel() -> Finding:
    from netemu.peers import uml

    reason = uml.missing()
    return Finding(works=False, words=reason, mend="netemu peers build uml") if reason else Finding(True, f"Linux {uml.version()}")


PROBES: Final[dict[str, Callable[[], Finding]]] = {
    "root": _root,
    "network-namespaces": _network_namespaces,
    "user-namespaces": _user_namespaces,
    "tun": partial(_opens, "/dev/net/tun", "modprobe tun, and run as root"),
    "kvm": partial(_opens, "/dev/kvm", "give this user the group kvm"),  # opens, which does not promise that a guest would run
    "ping_group_range": _ping_group_range,
    "qemu": _qemu,
    "linux.uml": partial(_program, "linux.uml", "user-mode-linux"),
    "time-travel-kernel": _time_travel_kernel,
    "busybox": partial(_program, "busybox", "busybox-static"),
    "tshark": partial(_program, "tshark", "tshark"),
    "libslirp": _libslirp,
}
