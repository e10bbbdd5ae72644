"""QEMU as a program: the one in PATH, or `qemu@trixie-backports` from an unpacked root.

One from a root is told where that root has its firmware (`-L`) and its modules (QEMU_MODULE_DIR), for it was built to find them
in /usr.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import Final

from netemu.errors import LocalError
from netemu.peers.root import Peer, locate

__all__ = ["Qemu", "find_qemu"]

_FIRMWARE: Final = ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu")
_VERSION: Final = re.compile(r"version (\d+\.\d+\.\d+)")
_PATIENCE: Final = 20  # seconds for a word about itself


@dataclass(frozen=True, slots=True)
class Qemu:
    """A QEMU that is installed. `command` is what to run, `environment` what it needs besides PATH."""

    peer: Peer
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    version: str

    def __str__(self) -> str:
        return f"QEMU {self.version}"

    def has(self, model: str) -> bool:
        """Whether `-device` knows `model`. (Asked for all at once, one from a root would load this machine's modules.)"""
        return _run((*self.command, "-device", f"{model},help"), self.environment).startswith(f"{model} options")


def find_qemu(name: str = "qemu") -> Qemu:
    """The QEMU called `qemu` or `qemu@suite`; `LocalError` if it is missing or does not run."""
    peer = locate(name)
    if peer.program != "qemu":
        raise LocalError(f"{name!r} is no QEMU: say qemu, or a release's, as in qemu@trixie-backports")
    return _find(peer, peer.command())


@cache
def _find(peer: Peer, program: tuple[str, ...]) -> Qemu:
    command = program
    environment: tuple[tuple[str, str], ...] = ()
    if peer.suite is not None:
        command += tuple(word for place in _FIRMWARE for word in ("-L", str(peer.root / place)))
        environment = (("QEMU_MODULE_DIR", str(min(peer.root.glob("usr/lib/*/qemu"), default=peer.root))),)
    said = _run((*program, "--version"), environment)
    found = _VERSION.search(said)
    if found is None:
        raise LocalError(f"{program[-1]} does not say its version, but {said.strip()[-300:]!r}")
    return Qemu(peer, command, environment, found[1])


def _run(command: tuple[str, ...], environment: tuple[tuple[str, str], ...]) -> str:
    """What it says."""
    places = {"PATH": os.defpath, **dict(environment)}
    run = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False, env=places)
    return run.stdout + run.stderr
