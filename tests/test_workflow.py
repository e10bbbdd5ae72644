"""The workflow's own commands, run as they stand, with what GitHub would put in place of its expressions."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "conformance.yml").read_text())


def step(job: str, name: str) -> str:
    return str(next(each["run"] for each in WORKFLOW["jobs"][job]["steps"] if each.get("name") == name))


def run(place: Path, command: str, expressions: dict[str, str], **environment: str) -> None:
    for name, value in expressions.items():
        command = command.replace(f"${{{{ {name} }}}}", value)
    assert "${{" not in command
    lines = [line for line in command.splitlines() if "pip install" not in line]  # it is installed here
    done = subprocess.run(
        ["bash", "-ec", "\n".join(lines)],
        cwd=place,
        env={**os.environ, **WORKFLOW["env"], **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """Where a job begins, with netemu installed."""
    program = tmp_path / ".venv" / "bin" / "netemu"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom netemu.cli import main\nsys.exit(main())\n")
    program.chmod(0o755)
    return tmp_path


def test_the_cells_are_judged_and_merged(workplace: Path):
    output, summary = workplace / "output", workplace / "summary"
    run(workplace, step("cells", "Name the cells"), {}, GITHUB_OUTPUT=str(output), GUESTS="inproc", BACKENDS="netemu,libslirp")
    cells = json.loads(output.read_text().removeprefix("matrix="))["include"]
    assert [cell["backend"] for cell in cells] == ["libslirp", "netemu"]

    for cell in cells:
        place = workplace / "-".join(cell.values())
        place.mkdir()
        (place / ".venv").symlink_to(workplace / ".venv")
        judge = step("judge", "Judge").replace("--out", "--clause rfc826 --out")  # a piece of it says as much here
        run(place, judge, {f"matrix.{axis}": name for axis, name in cell.items()})
        (workplace / "shards").mkdir(exist_ok=True)
        (place / "shard").rename(workplace / "shards" / place.name)

    run(workplace, step("report", "Merge the shards"), {}, GITHUB_STEP_SUMMARY=str(summary))
    assert re.search(r"^## libslirp .*^## netemu", summary.read_text(), re.DOTALL | re.MULTILINE)
    document = json.loads((workplace / "report" / "netemu-conformance.json").read_text())
    assert {result["implementation"] for result in document["results"]} == {"netemu", "libslirp"}


def test_what_the_matrix_names_is_registered(workplace: Path):
    run(workplace, step("cells", "Name the cells"), {}, GITHUB_OUTPUT=str(workplace / "output"))
    cells = json.loads((workplace / "output").read_text().removeprefix("matrix="))["include"]
    guests, backends = (WORKFLOW["env"][name].split(",") for name in ("GUESTS", "BACKENDS"))
    assert len(cells) == len(guests) * len(backends)
