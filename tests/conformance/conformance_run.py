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


UNBORN = "ended, booting"  # about one boot in a hundred of Debian's linux.uml cannot fork its first process, and panics


def settled(out: Path, *arguments: str) -> list[dict]:
    """The results of a run; a check whose guest never came to life says nothing of anybody, and is made once more."""
    _, document = conformance(out, *arguments)
    unborn = {entry["requirement"] for entry in document["results"] if entry["outcome"] == "error" and UNBORN in entry["why"]}
    if not unborn:
        return document["results"]
    again = [word for clause in sorted(unborn) for word in ("--clause", clause)]
    _, repeated = conformance(out / "again", *arguments, *again)
    return [*(entry for entry in document["results"] if entry["requirement"] not in unborn), *repeated["results"]]
