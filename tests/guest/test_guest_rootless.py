"""Namespaces and guests for a user without privileges: `rootless_cases` is run as nobody, wherever this runs as root."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

NOBODY = "65534"
ROOT = Path(__file__).parents[2]
CASES = Path(__file__).parent / "rootless_cases.py"
TUN = Path("/dev/net/tun")


def why_not() -> str | None:
    return None if os.geteuid() == 0 else "root is needed, to become nobody"


def closed(path: Path) -> Path | None:
    """The first directory on the way to `path` that nobody may not enter."""
    return next((parent for parent in reversed(path.parents) if not parent.stat().st_mode & stat.S_IXOTH), None)


def openings(stash: Path) -> Iterator[str]:
    """What is mounted, for the child alone, so that nobody finds Python, the project and /dev/net/tun."""
    needed = {path.resolve() for path in (Path(sys.base_prefix), Path(sys.prefix), ROOT)}
    hidden = [path for path in needed if closed(path)]
    for number, path in enumerate(hidden):
        yield f"mkdir {stash}/{number} && mount --bind {path} {stash}/{number}"
    for directory in {closed(path) for path in hidden}:
        yield f"mount -t tmpfs -o mode=755 none {directory}"
    for number, path in enumerate(hidden):
        yield f"mkdir -p {path} && mount --bind {stash}/{number} {path}"
    if TUN.exists() and TUN.stat().st_mode & 0o006 != 0o006:
        yield f"mount -t tmpfs none {TUN.parent} && mknod {TUN} c 10 200 && chmod 666 {TUN}"


def test_nobody_has_namespaces_and_guests(netemu_platform, tmp_path: Path):
    netemu_platform.require_part("guest", "netns-rootless", why_not)
    run = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env", "HOME=/", "PYTHONDONTWRITEBYTECODE=1"]
    run += [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(CASES)]
    stash = tmp_path / "stash"
    stash.mkdir()
    script = " && ".join([*openings(stash), f"exec {shlex.join(run)}"])
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        cwd=ROOT,
        env={**{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{CASES.read_text().count('def test_')} passed" in done.stdout
