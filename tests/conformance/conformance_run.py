"""One run of `netemu conformance` in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

COMMAND = "import sys; from netemu.cli import main; sys.exit(main())"


def conformance(out: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, dict]:
    """The exit status, and the document."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "conformance", "--out", str(out), *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode, json.loads((out / "netemu-conformance.json").read_text())
