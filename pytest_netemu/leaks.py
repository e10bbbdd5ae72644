"""What a test must give back: descriptors, child processes, threads and network namespaces.

Two pictures of this process are compared. What is there now and was not before has leaked, unless it goes within a short grace: a
thread that was told to end, a process that is being reaped.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path
from typing import Final, TypeAlias

__all__ = ["Picture", "leaks_since", "take_picture"]

_GRACE: Final = 2.0  # seconds
_PAUSE: Final = 0.02
_SELF: Final = Path("/proc/self")
_KEPT: Final = "/netemu-templates-"  # the lock that says who uses them, held for the whole run (netemu.guest.templates)


Picture: TypeAlias = dict[tuple[str, str], str]
"""What a process holds: each thing by a key that is not used again soon, with the words that name it."""


def take_picture() -> Picture:
    """What this process holds now."""
    return {**_descriptors(), **_children(), **_threads()}


def leaks_since(before: Picture) -> list[str]:
    """What leaked since, in words; waits up to two seconds for things that are on their way out."""
    give_up = time.monotonic() + _GRACE
    collected = False
    while True:
        leaked = [words for key, words in take_picture().items() if key not in before]
        if not leaked or time.monotonic() > give_up:
            return sorted(leaked)
        if not collected:
            gc.collect()
            collected = True
        time.sleep(_PAUSE)


def _descriptors() -> Picture:
    found: Picture = {}
    for number in os.listdir(_SELF / "fd"):
        try:
            target = os.readlink(_SELF / "fd" / number)
        except OSError:
            continue  # the descriptor of this very listing
        if _KEPT in target:
            continue
        what = "network namespace held by descriptor" if target.startswith("net:[") else "descriptor"
        found["fd", f"{number} {target}"] = f"{what} {number} ({target})"
    return found


def _children() -> Picture:
    found: Picture = {}
    for task in os.listdir(_SELF / "task"):
        try:
            pids = (_SELF / "task" / task / "children").read_text().split()
        except OSError:
            continue  # a thread that has just ended
        for pid in pids:
            found["process", pid] = f"child process {pid} ({_command(pid)})"
    return found


def _command(pid: str) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "ended"
    return command.replace(b"\0", b" ").decode(errors="replace").strip() or "ended, not reaped"


def _threads() -> Picture:
    return {("thread", str(thread.ident)): f"thread {thread.name}" for thread in threading.enumerate()}
