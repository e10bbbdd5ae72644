"""The command line: `netemu conformance`, `report`, `matrix`, `bench`, `peers` and `doctor`.

Exit status: 0 where all is well; 1 where a requirement is broken or the harness broke; 2 for wrong use, with one sentence on
standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import netemu
from netemu.errors import LocalError

if TYPE_CHECKING:
    from pytest_netemu.conformance import Run

__all__ = ["main"]

_OK: Final = 0
_BROKEN: Final = 1
_WRONG_USE: Final = 2
_DEFAULT_WALL: Final = "user-network"
_DEFAULT_OUT: Final = Path("netemu-report")
_DEFAULT_RUNS: Final = 10
_DEFAULT_ROUNDS: Final = 3
_COMPARISON: Final = "user"
_SECONDS: Final = 1.0  # of traffic in each measurement of a comparison

# What a probe's success lets one do, for `netemu doctor`.
_ENABLES: Final = {
    "root": "guests in network namespaces without a user namespace around them, TAP devices",
    "network-namespaces": "netns guests, and hosts with an Internet of their own",
    "user-namespaces": "the same without root",
    "tun": "TAP backends, and guests that need a network device",
    "kvm": "fast QEMU guests",
    "qemu": "QEMU guests, on any NIC model",
    "ping_group_range": "pings beyond the gateway on the real host",
    "linux.uml": "User-mode Linux guests",
    "time-travel-kernel": "User-mode Linux guests in virtual time",
    "busybox": "the userland of User-mode Linux and QEMU guests",
    "tshark": "an independent reading of captures in the project's own tests",
    "libslirp": "the libslirp backend",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Wrong use is one sentence, not a screen."""
        self.exit(_WRONG_USE, f"netemu: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; gives its exit status. `arguments` are the process's unless given."""
    chosen = _parser().parse_args(arguments)
    try:
        status = int(chosen.command(chosen))
        sys.stdout.flush()
    except LocalError as error:
        print(f"netemu: {error}", file=sys.stderr)
        return _WRONG_USE
    except BrokenPipeError:  # whoever read this has seen enough; Python would complain again when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="netemu", description="Play either side of every wall of QEMU's network path, and judge the other.")
    parser.add_argument("--version", action="version", version=f"netemu {netemu.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for name, help_, define, command in _COMMANDS:
        sub = commands.add_parser(name, help=help_, description=help_)
        define(sub)
        sub.set_defaults(command=command)
    return parser


# conformance


def _define_conformance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wall", default=_DEFAULT_WALL, help=f"the wall to judge at ({_DEFAULT_WALL} unless given)")
    parser.add_argument("--backend", action="append", default=[], metavar="B", help="a backend to judge; repeat it for more")
    parser.add_argument("--guest", action="append", default=[], metavar="G", help="a guest to judge; repeat it for more")
    parser.add_argument("--nic", action="append", default=[], metavar="N", help="a NIC between them; repeat it for more")
    parser.add_argument("--clause", action="append", default=[], metavar="ID", help="only this document, section or requirement")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="run in N other processes (needs pytest-xdist)")
    parser.add_argument("--list", action="store_true", help="say what would be judged, and judge nothing")
    parser.add_argument("--out", type=Path, default=_DEFAULT_OUT, metavar="DIR", help=f"where the report goes ({_DEFAULT_OUT})")


def _conformance(chosen: argparse.Namespace) -> int:
    from pytest_netemu.conformance import package_of, refuse_unknown, run, select

    package = package_of(chosen.wall)
    if chosen.list:
        refuse_unknown(package, backends=chosen.backend, guests=chosen.guest, nics=chosen.nic)
        for check in select(package, chosen.clause):
            print(f"{check.requirement.id:<32} {check.requirement.level:<12} {check.test}")
        return _OK
    with _progress() as plugins:
        done = run(
            package,
            chosen.out,
            backends=chosen.backend,
            guests=chosen.guest,
            nics=chosen.nic,
            clauses=chosen.clause,
            workers=chosen.workers,
            plugins=plugins,
        )
    _print_verdicts(done)
    return _BROKEN if done.failed else _OK


@contextmanager
def _progress() -> Iterator[list[object]]:
    """A bar on standard error while tests run, if somebody watches; gives the pytest plugins that move it."""
    from rich.console import Console
    from rich.progress import Progress

    from pytest_netemu import conformance

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("checks", total=None)
        yield [conformance.Progress(lambda done, total: bar.update(task, completed=done, total=total))]


def _print_verdicts(done: Run) -> None:
    from rich.console import Console
    from rich.table import Table

    from pytest_netemu.outcomes import BAD, OUTCOMES

    document: dict[str, Any] = done.document
    console = Console(highlight=False)
    judged = sorted({result["implementation"] for result in document["results"]})
    counts = {name: Counter[str]() for name in judged}
    for result in document["results"]:
        counts[result["implementation"]][result["outcome"]] += 1
    names = [name for name in OUTCOMES if any(count[name] for count in counts.values())]
    table = Table(box=None, pad_edge=False)
    table.add_column("implementation")
    for name in names:
        table.add_column(name, justify="right", style="red" if name in BAD else None)
    for implementation, count in counts.items():
        table.add_row(implementation, *(str(count[name]) for name in names))
    console.print(table)
    for result in document["results"]:
        if result["outcome"] in BAD:
            why = result["why"].partition("\n")[0]
            line = f"{result['outcome']} {result['requirement']} ({result['implementation']}): {why}"
            console.print(line, markup=False, soft_wrap=True)
    console.print(f"report: {done.out / 'index.html'}", soft_wrap=True)


# report


def _define_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="DIR", help="the directory with the run's events.jsonl")
    parser.add_argument("shards", type=Path, nargs="*", metavar="SHARD", help="merge the events of these into DIR first")


def _report(chosen: argparse.Namespace) -> int:
    from pytest_netemu.report.merge import merge
    from pytest_netemu.report.recorder import write_views

    events = chosen.out / "events.jsonl"
    if not events.is_file() and not chosen.shards:
        raise LocalError(f"{chosen.out} has no events.jsonl; give the directory that a run was told to write to")
    try:
        write_views(merge(chosen.shards, chosen.out) if chosen.shards else events)
    except OSError as error:
        raise _unwritable(error) from None
    print(f"report: {chosen.out / 'index.html'}")
    return _OK


# matrix


def _define_matrix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", action="append", default=[], metavar="B", help="a backend of the matrix; repeat it for more")
    parser.add_argument("--guest", action="append", default=[], metavar="G", help="a guest of the matrix; repeat it for more")
    parser.add_argument("--nic", action="append", default=[], metavar="N", help="a NIC of the matrix; repeat it for more")
    parser.add_argument("--github", action="store_true", help="as the matrix of a GitHub Actions job, on one line")


def _matrix(chosen: argparse.Namespace) -> int:
    from pytest_netemu.cells import cells, github

    found = cells(chosen.guest, chosen.nic, chosen.backend)
    if chosen.github:
        print(github(found))
        return _OK
    for cell in found:
        name = f"{cell.guest} {cell.nic} {cell.backend}"
        print(f"{'no ' if cell.reason else 'yes':<4}{name:<40}{cell.reason or ''}".rstrip())
    return _OK


# bench


def _define_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="fixture, tcp, suite or user")
    runs = f"counted runs ({_DEFAULT_RUNS}; of user {_DEFAULT_ROUNDS})"
    parser.add_argument("--runs", type=int, metavar="N", help=runs)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the runs there, as SVG")


def _bench(chosen: argparse.Namespace) -> int:
    from netemu.bench import BENCHES, measure, plot

    if chosen.name not in (*BENCHES, _COMPARISON):
        raise LocalError(f"bench {chosen.name!r} is not one of {', '.join(BENCHES)}, {_COMPARISON}")
    if chosen.runs is not None and chosen.runs < 1:
        raise LocalError(f"--runs {chosen.runs}: one run or more is needed")
    if chosen.name == _COMPARISON:
        return _compare(chosen)
    figures = measure(chosen.name, chosen.runs or _DEFAULT_RUNS)
    print(f"{figures.name}: {BENCHES[figures.name].what}: {figures}")
    if chosen.json:
        entry = {"name": figures.name, "seconds": figures.seconds, "median": figures.median, "mbit_per_s": figures.rate}
        _write(chosen.json, json.dumps(entry, indent=1) + "\n")
    if chosen.plot:
        _write(chosen.plot, plot(figures))
    return _OK


def _compare(chosen: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from netemu.bench.table import plot, table
    from netemu.bench.user import compare

    console = Console(highlight=False)
    with Console(stderr=True).status("starting") as status:
        done = compare(chosen.runs or _DEFAULT_ROUNDS, _SECONDS, progress=status.update)
    head, *rows = table(done)
    shown = Table(box=None, pad_edge=False)
    for place, name in enumerate(head):
        shown.add_column(name, justify="left" if place == 0 else "right")
    for row in rows:
        shown.add_row(*row)
    console.print(shown)
    for (name, mtu, implementation), why in done.missing.items():
        console.print(f"{name} at MTU {mtu}: {implementation} has no figure: {why}", markup=False, soft_wrap=True)
    if chosen.json:
        _write(chosen.json, json.dumps(done.document(), indent=1) + "\n")
    if chosen.plot:
        _write(chosen.plot, plot(done))
    return _OK


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise _unwritable(error) from None


def _unwritable(error: OSError) -> LocalError:
    return LocalError(f"{error.filename}: {error.strerror}; give a place that can be written to")


# peers


def _define_peers(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION", parser_class=_Parser)
    actions.add_parser("list", help="say which there are").set_defaults(act=_list_peers)
    install = actions.add_parser("install", help="unpack one of another release, from the Debian archive that apt uses")
    install.add_argument("name", metavar="PEER", help="such as passt@trixie-backports")
    install.set_defaults(act=_install_peer)
    build = actions.add_parser("build", help="build one from Debian's source: a Linux kernel for virtual time, in minutes")
    build.add_argument("name", metavar="PEER", choices=["uml"], help="uml")
    build.set_defaults(act=_build_peer)


def _peers(chosen: argparse.Namespace) -> int:
    return int(chosen.act(chosen))


def _list_peers(_chosen: argparse.Namespace) -> int:
    from netemu.peers import uml
    from netemu.peers.root import PEERS
    from netemu.peers.versions import version

    for peer in PEERS:
        reason = peer.missing()
        print(f"{'no ' if reason else 'yes':<4}{peer!s:<32}{reason or version(peer)}")
    reason = uml.missing()
    print(f"{'no ' if reason else 'yes':<4}{'uml':<32}{reason or f'Linux {uml.version()}, for virtual time'}")
    return _OK


def _build_peer(_chosen: argparse.Namespace) -> int:
    from netemu.errors import HostError
    from netemu.peers import uml

    try:
        uml.build()
    except HostError as error:
        print(f"netemu: {error}", file=sys.stderr)
        return _BROKEN
    print(f"uml: {uml.version()} in {uml.kernel().parent}")
    return _OK


def _install_peer(chosen: argparse.Namespace) -> int:
    from netemu.errors import HostError
    from netemu.peers.root import locate
    from netemu.peers.versions import version

    peer = locate(chosen.name)
    try:
        peer.install()
    except HostError as error:
        print(f"netemu: {error}", file=sys.stderr)
        return _BROKEN
    print(f"{peer}: {version(peer)} in {peer.root}")
    return _OK


# doctor


def _define_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON, for a program")


def _doctor(chosen: argparse.Namespace) -> int:
    from netemu.platform import PROBES

    findings = {name: probe() for name, probe in PROBES.items()}
    if chosen.json:
        entries = {
            name: {"works": found.works, "words": found.words, "mend": found.mend, "enables": _ENABLES.get(name, "")}
            for name, found in findings.items()
        }
        print(json.dumps(entries, indent=1))
        return _OK
    for name, found in findings.items():
        print(f"{'yes' if found.works else 'no ':<4}{name:<20}{found.words}")
        if not found.works:
            print(f"{'':<24}would enable: {_ENABLES.get(name, 'nothing netemu has yet')}")
            if found.mend:
                print(f"{'':<24}to get it:    {found.mend}")
    return _OK


_COMMANDS: Final[tuple[tuple[str, str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]], ...]] = (
    ("conformance", "judge implementations against the documents, and write a report", _define_conformance, _conformance),
    ("report", "write the report of a run again, or one of several runs", _define_report, _report),
    ("matrix", "name the cells of a run, and those that cannot run here", _define_matrix, _matrix),
    ("bench", "measure netemu on this machine", _define_bench, _bench),
    ("peers", "list the programs that netemu is compared with, and get those of other releases", _define_peers, _peers),
    ("doctor", "say what this machine can do for netemu, and how to get the rest", _define_doctor, _doctor),
)
