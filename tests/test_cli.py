"""The command line: what it says, what it writes, and its exit status."""

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from netemu import bench, platform
from netemu.bench import Bench
from netemu.cli import main
from netemu.errors import HostError
from netemu.peers import libslirp
from netemu.platform import Finding
from pytest_netemu.suites import WALLS


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    try:
        status = main(arguments)
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


# Wrong use


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["conformance", "--wall", "berlin"], "wall 'berlin' is not one of user-network, wire, nic"),
        (["conformance", "--clause", "rfc9999"], "clause 'rfc9999': no check of this wall judges it"),
        (["conformance", "--colour"], "unrecognized arguments: --colour"),
        (["bench", "speed"], "bench 'speed' is not one of fixture, tcp, suite"),
        (["bench", "fixture", "--runs", "0"], "--runs 0: one run or more is needed"),
        (["report", "nowhere"], "nowhere has no events.jsonl"),
        (["peers", "install", "nothing"], "peer 'nothing': give one of passt, passt-repair, qemu"),
        (["peers", "install", "passt"], "passt is the one in PATH: apt-get install passt"),
        (["sing"], "invalid choice: 'sing'"),
        ([], "the following arguments are required: COMMAND"),
        *((["conformance", "--wall", name], "has no suite yet") for name, wall in WALLS.items() if not wall.package),
    ],
    ids=" ".join,
)
def test_wrong_use_is_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str):
    status, out, err = said(capsys, *arguments)
    assert status == 2
    assert sentence in err
    assert (out, err.count("\n")) == ("", 1)


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]):
    status, out, _ = said(capsys, "--version")
    assert (status, out.split()[0]) == (0, "netemu")


# peers


def test_peers_are_listed_with_what_is_missing(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    status, out, _ = said(capsys, "peers", "list")
    assert status == 0
    assert "no  passt@trixie-backports          passt@trixie-backports is not installed (netemu peers install" in out


# conformance


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, for pytest runs inside it."""
    return subprocess.run(
        [sys.executable, "-c", "import sys; from netemu.cli import main; sys.exit(main())", "conformance", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    out = tmp_path_factory.mktemp("run") / "report"
    return run("--clause", "rfc826", "--clause", "rfc2131/4.3.2", "--out", str(out)), out


def test_a_run_without_failure_is_zero(done: tuple[subprocess.CompletedProcess[str], Path]):
    process, out = done
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.splitlines()[-1] == f"report: {out / 'index.html'}"
    assert {"events.jsonl", "netemu-conformance.json", "index.html"} <= {path.name for path in out.iterdir()}


def test_only_the_clauses_asked_for_are_judged(done: tuple[subprocess.CompletedProcess[str], Path]):
    document = json.loads((done[1] / "netemu-conformance.json").read_text())
    judged = {entry["requirement"] for entry in document["results"]}
    assert {name.split("/")[0] for name in judged} == {"rfc826", "rfc2131"}
    assert all(name.startswith(("rfc826/", "rfc2131/4.3.2/")) for name in judged)


def test_names_do_not_depend_on_where_one_stands(done: tuple[subprocess.CompletedProcess[str], Path]):
    document = json.loads((done[1] / "netemu-conformance.json").read_text())
    assert all(entry["nodeid"].startswith("pytest_netemu/suites/user_network/test_") for entry in document["results"])


@pytest.mark.parametrize("option", ["--backend", "--guest", "--nic"])
def test_an_unknown_part_is_wrong_use(tmp_path: Path, option: str):
    process = run(option, "nobodys", "--out", str(tmp_path))
    assert process.returncode == 2
    assert process.stderr.startswith(f"netemu: {option}: 'nobodys' was given; give one or more of those registered: ")
    assert process.stderr.count("\n") == 1


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_report_that_cannot_be_written_is_wrong_use(tmp_path: Path, place: str):
    (tmp_path / "file").touch()
    process = run("--clause", "rfc768", "--out", str(tmp_path / place))
    assert process.returncode == 2
    assert re.fullmatch(r"netemu: --out: .*/file.*: .*; give a directory that can be written to\n", process.stderr)


def test_fewer_than_no_workers_are_wrong_use(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    status, _, err = said(capsys, "conformance", "--workers", "-1", "--out", str(tmp_path))
    assert (status, err) == (2, "netemu: --workers -1: none (0) or more are needed\n")


def test_a_reader_that_has_seen_enough_is_no_crash():
    command = f"{shlex.quote(sys.executable)} -c 'import sys; from netemu.cli import main; sys.exit(main())' conformance --list"
    done = subprocess.run(["sh", "-c", f"{command} | true"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""


def test_the_users_own_configuration_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --neither-this\n")
    process = run("--clause", "rfc826/reception/02")
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "netemu-report" / "index.html").exists()
    assert not (tmp_path / ".pytest_cache").exists()


def test_the_list_runs_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = said(capsys, "conformance", "--list", "--clause", "rfc768")
    lines = out.splitlines()
    assert status == 0
    assert lines[0].split() == ["rfc768/fields/01", "descriptive", "test_no_checksum_is_accepted"]
    assert len(lines) == 5
    assert not list(tmp_path.iterdir())


def test_the_list_refuses_what_a_run_would_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    done = run("--list", "--backend", "nope")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--backend: 'nope' was given; give one or more of those registered:" in done.stderr
    assert run("--list", "--backend", "netemu", "--clause", "rfc768").stdout.startswith("rfc768/fields/01")


# report


def test_a_run_that_did_not_end_has_a_report(
    done: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    lines = (done[1] / "events.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "events.jsonl").write_text("".join(lines[:-2]) + lines[-2][:40])
    status, out, _ = said(capsys, "report", str(tmp_path))
    assert (status, out) == (0, f"report: {tmp_path / 'index.html'}\n")
    assert "this run did not end" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("text", ["", "garbage", "[1]", '{"$type": "result"}'])
def test_a_file_that_is_not_of_a_run_is_wrong_use(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "events.jsonl").write_text(text)
    status, _, err = said(capsys, "report", str(tmp_path))
    assert status == 2
    assert err.endswith("events.jsonl is not of a run: its first line is no start event\n")


# matrix


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A downstream project with a guest of its own that cannot run here, and a matrix in its ini file."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nnetemu_guests = inproc mine\nfilterwarnings = error\naddopts = -q\n")
    (tmp_path / "conftest.py").write_text(
        "def pytest_netemu_register_guests(registry):\n"
        "    registry.register('mine', print, capabilities=['ping'], probe=lambda: 'no rocket')\n"
    )
    (tmp_path / "test_it.py").write_text("raise RuntimeError('nothing is collected')\n")
    return tmp_path


def in_project(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "import sys; from netemu.cli import main; sys.exit(main())", "matrix", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_cells_of_a_project_are_named_with_the_probes_words(project: Path):
    done = in_project(project)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["yes inproc direct netemu", f"{'no  mine direct netemu':<44}no rocket"]


def test_the_matrix_of_github_has_every_cell_on_one_line(project: Path):
    done = in_project(project, "--github", "--guest", "mine", "--backend", "netemu,libslirp")
    backends = ["libslirp", "netemu"]
    assert json.loads(done.stdout) == {"include": [{"guest": "mine", "nic": "direct", "backend": name} for name in backends]}
    assert done.stdout.count("\n") == 1


def test_a_cell_that_there_is_not_is_wrong_use(project: Path):
    done = in_project(project, "--nic", "toaster")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.match(r"netemu: --nic: 'toaster' was given; give one or more of those registered: ", done.stderr)


# bench


@pytest.fixture
def nap(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A benchmark that does nothing but be counted, and moves a kilobit."""
    ran: list[int] = []
    monkeypatch.setitem(bench.BENCHES, "nap", Bench("nothing at all", lambda: ran.append(1), octets=125))
    return ran


def test_a_benchmark_says_its_figures(capsys: pytest.CaptureFixture[str], nap: list[int], tmp_path: Path):
    figures, drawing = tmp_path / "nap.json", tmp_path / "nap.svg"
    status, out, _ = said(capsys, "bench", "nap", "--runs", "3", "--json", str(figures), "--plot", str(drawing))
    assert status == 0
    assert len(nap) == 4  # the first is not counted
    assert out.startswith("nap: nothing at all: median ")
    assert "of 3 runs" in out
    entry = json.loads(figures.read_text())
    assert len(entry["seconds"]) == 3
    assert entry["mbit_per_s"] > 0
    bars = ET.parse(drawing).findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 1 + 3


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_figures_that_cannot_be_written_are_wrong_use(
    option: str, capsys: pytest.CaptureFixture[str], nap: list[int], tmp_path: Path
):
    status, _, err = said(capsys, "bench", "nap", "--runs", "1", option, str(tmp_path))
    assert (status, err) == (2, f"netemu: {tmp_path}: Is a directory; give a place that can be written to\n")


@pytest.mark.parametrize("name", ["fixture", "tcp"])
def test_the_benchmarks_run(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench, "_TCP_OCTETS", 100_000)
    bench.BENCHES[name].once()


def test_a_comparison_is_a_table_and_a_drawing():
    from netemu.bench.table import plot, table
    from netemu.bench.user import Comparison

    comparison = Comparison()
    for implementation, figures in (("netemu", (3.0, 6.0, 5.0)), ("slirp4netns", (2.0,)), ("pasta", (2.5,))):
        for figure in figures:
            comparison.add("tcp-up", 1500, implementation, figure, "Gbit/s", more_is_better=True)
    comparison.add("ping", 1500, "netemu", 250.0, "us", more_is_better=False)
    comparison.add("ping", 1500, "pasta", 500.0, "us", more_is_better=False)
    comparison.add("rr", 1500, "pasta", 7.0, "1/s", more_is_better=True)
    head, *rows = table(comparison)
    assert head == ("measure", "MTU", "unit", "netemu", "slirp4netns", "pasta", "ratio")
    assert rows == [
        ("tcp-up", "1500", "Gbit/s", "5.00", "2.00", "2.50", "2.00"),
        ("ping", "1500", "us", "250", "-", "500", "2.00"),
        ("rr", "1500", "1/s", "-", "-", "7.00", "-"),
    ]
    bars = ET.fromstring(plot(comparison)).findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 1 + 3 + 3 * 3


def test_the_networks_are_compared_on_real_traffic():
    missing = [name for name in ("slirp4netns", "nsenter") if shutil.which(name) is None]
    if os.geteuid() or not os.access("/dev/net/tun", os.R_OK | os.W_OK) or missing:
        pytest.skip(f"needs root, /dev/net/tun and {missing or 'nothing else'}")
    from netemu.bench.user import Measure, compare

    done = compare(1, 0.1, [Measure("rr", ("rr",), "1/s"), Measure("tcp-up", ("tcp-up",), "Gbit/s")], ["netemu", "slirp4netns"])
    assert done.missing == {}
    assert {(measure, name) for measure, _, name in done.figures} == {
        (measure, name) for measure in ("rr", "tcp-up", "cpu-tcp-up") for name in ("netemu", "slirp4netns")
    }
    assert all(figure > 0 for measure in ("rr", "tcp-up") for figure in done.figures[measure, 1500, "netemu"])


# doctor


@pytest.fixture
def two_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"tun": Finding(works=True, words="opens"), "kvm": Finding(works=False, words="no such file", mend="modprobe kvm")}
    monkeypatch.setattr(platform, "PROBES", {name: lambda finding=finding: finding for name, finding in found.items()})


def test_the_doctor_says_what_is_missing_and_how_to_get_it(capsys: pytest.CaptureFixture[str], two_probes: None):
    status, out, _ = said(capsys, "doctor")
    assert status == 0
    lines = [line.split(maxsplit=2) for line in out.splitlines()]
    assert lines[0] == ["yes", "tun", "opens"]
    assert lines[1] == ["no", "kvm", "no such file"]
    assert "would enable: fast QEMU guests" in out
    assert "modprobe kvm" in out


def test_the_doctor_speaks_json(capsys: pytest.CaptureFixture[str], two_probes: None):
    _, out, _ = said(capsys, "doctor", "--json")
    entries = json.loads(out)
    assert entries["kvm"] == {"works": False, "words": "no such file", "mend": "modprobe kvm", "enables": "fast QEMU guests"}


def test_every_probe_says_what_it_is_good_for():
    from netemu.cli import _ENABLES

    assert set(_ENABLES) == set(platform.PROBES)


def test_a_library_that_is_there_and_cannot_be_used_is_not_to_be_installed(monkeypatch: pytest.MonkeyPatch):
    def missing() -> str:
        raise OSError

    monkeypatch.setattr(libslirp, "probe", lambda: "no namespaces here")
    monkeypatch.setattr(libslirp, "version", lambda: "4.7.0")
    assert platform.PROBES["libslirp"]() == Finding(works=False, words="version 4.7.0; no namespaces here")
    monkeypatch.setattr(libslirp, "version", missing)
    assert platform.PROBES["libslirp"]().mend == "apt-get install libslirp0"


def test_an_errno_is_said_once():
    assert str(HostError(errno.EPERM, "make a namespace")) == "make a namespace: EPERM (Operation not permitted)"
