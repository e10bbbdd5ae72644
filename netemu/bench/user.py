"""`netemu bench user`: our user-mode network, slirp4netns and pasta side by side on the same traffic.

How it works. One private namespace is the host: the traffic server runs there, and each implementation, a process of its own. Each
implementation has a guest of its own, a namespace with a TAP. For each MTU and each measure all implementations have their turn,
one after the other, and that is repeated, so that what else the machine does meets all of them. Figures are medians.

A figure that an implementation cannot give (it refuses so many connections, say) is missing, with the reason in `missing`.
Nothing leaves the namespaces. Every measurement is bounded in time.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Self

from netemu.bench.traffic import PINGED, SERVER
from netemu.errors import LocalError
from netemu.io.namespace import Namespace
from netemu.io.place import HERE
from netemu.io.tap import open_tap
from netemu.peers.process import die_with_us

__all__ = ["IMPLEMENTATIONS", "MEASURES", "Comparison", "Measure", "compare"]

_GUEST: Final = "10.0.2.15"
_INTERFACE: Final = "tap0"
_EVERYBODY: Final = (0, 2_147_483_647)  # ping_group_range
_SETUP_TIMEOUT: Final = 10.0  # seconds
_LOOKS: Final = 200  # for what pasta starts
_LOAD_AFTER: Final = 2.0  # seconds that a load outlasts what is measured beside it
_EXTRA_TIME: Final = 25.0  # seconds that a measurement may take beyond its traffic: 10,000 connections are opened first
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure: how its traffic is asked for, its unit, and whether more is better. `load` runs beside it, uncounted."""

    name: str
    traffic: tuple[str, ...]
    unit: str
    mtus: tuple[int, ...] = (1500,)
    more_is_better: bool = True
    load: tuple[str, ...] = ()


MEASURES: Final = (
    Measure("tcp-up", ("tcp-up",), "Gbit/s", (1500, 65520)),
    Measure("tcp-down", ("tcp-down",), "Gbit/s", (1500, 65520)),
    Measure("udp-up-64", ("udp-up", "64"), "1/s"),
    Measure("udp-down-64", ("udp-down", "64"), "1/s"),
    Measure("udp-up-1400", ("udp-up", "1400"), "1/s"),
    Measure("udp-down-1400", ("udp-down", "1400"), "1/s"),
    Measure("rr", ("rr",), "1/s"),
    Measure("crr", ("crr",), "1/s"),
    Measure("ping", ("ping",), "us", more_is_better=False),
    Measure("ping-loaded", ("ping",), "us", more_is_better=False, load=("tcp-up",)),
    Measure("rr-100-flows", ("flows", "100"), "1/s"),
    Measure("rr-10000-flows", ("flows", "10000"), "1/s"),
)


@dataclass(slots=True)
class Comparison:
    """The figures of every measure, MTU and implementation, one a round; and why some are missing.

    Derived measures: `cpu-` and a bulk measure's name, in CPU seconds of the network's process a gigabyte; `memory` in octets of
    resident memory a flow, of the measures with many flows.
    """

    figures: dict[tuple[str, int, str], list[float]] = field(default_factory=dict)
    missing: dict[tuple[str, int, str], str] = field(default_factory=dict)
    units: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def add(self, measure: str, mtu: int, implementation: str, figure: float, unit: str, *, more_is_better: bool) -> None:
        self.units[measure] = (unit, more_is_better)
        self.figures.setdefault((measure, mtu, implementation), []).append(figure)

    def median(self, measure: str, mtu: int, implementation: str) -> float | None:
        figures = self.figures.get((measure, mtu, implementation))
        return statistics.median(figures) if figures else None

    def rows(self) -> list[tuple[str, int]]:
        """Each measure and MTU that somebody has a figure for, in the order in which they came."""
        return list(dict.fromkeys((measure, mtu) for measure, mtu, _ in self.figures))

    def ratio(self, measure: str, mtu: int) -> float | None:
        """How many times as good as the better of the others ours is; None where one of the figures is missing."""
        ours, *others = (self.median(measure, mtu, implementation) for implementation in IMPLEMENTATIONS)
        known = [other for other in others if other is not None]
        if ours is None or not known:
            return None
        return ours / max(known) if self.units[measure][1] else min(known) / ours

    def document(self) -> dict[str, object]:
        """Everything, for JSON."""
        return {
            "figures": [
                {
                    "measure": measure,
                    "mtu": mtu,
                    "implementation": implementation,
                    "unit": self.units[measure][0],
                    "figures": figures,
                }
                for (measure, mtu, implementation), figures in self.figures.items()
            ],
            "missing": [
                {"measure": measure, "mtu": mtu, "implementation": implementation, "why": why}
                for (measure, mtu, implementation), why in self.missing.items()
            ],
        }


# The implementations. Each is started in the host's namespace, with a guest of its own.


@dataclass(frozen=True, slots=True)
class _Side:
    """One implementation at work: its process, and the path of its guest's network namespace."""

    name: str
    pid: int
    guest: str


_Start = Callable[[ExitStack, Namespace, int], tuple[int, str]]


def _netemu(stack: ExitStack, host: Namespace, mtu: int) -> tuple[int, str]:
    guest = stack.enter_context(Namespace("bench-netemu"))
    fd = guest.open(open_tap, _INTERFACE)
    try:
        process = _spawn(stack, host, [sys.executable, "-m", "netemu.bench.serve", str(fd), str(mtu)], pass_fds=[fd])
    finally:
        os.close(fd)
    for command in (
        f"address add {_GUEST}/24 dev {_INTERFACE}",
        f"link set {_INTERFACE} mtu {mtu} up",
        f"route add default via {PINGED}",
    ):
        done = subprocess.run(
            [*_inside(_path(guest)), "ip", *command.split()], capture_output=True, text=True, check=False, timeout=_SETUP_TIMEOUT
        )
        if done.returncode:
            raise LocalError(f"ip {command}: {done.stderr.strip()}")
    return process.pid, _path(guest)


def _slirp4netns(stack: ExitStack, host: Namespace, mtu: int) -> tuple[int, str]:
    guest = stack.enter_context(Namespace("bench-slirp4netns"))
    arguments = ["--configure", "--disable-host-loopback", f"--mtu={mtu}", "--netns-type=path", _path(guest), _INTERFACE]
    return _spawn(stack, host, [_program("slirp4netns"), *arguments]).pid, _path(guest)


def _pasta(stack: ExitStack, host: Namespace, mtu: int) -> tuple[int, str]:
    """It makes its guest's namespaces itself: it may not enter ours, having dropped its privileges before."""
    addresses = ["-4", "-a", _GUEST, "-n", "24", "-g", PINGED, "-i", _UPLINK, "-m", str(mtu), "-I", _INTERFACE, "--config-net"]
    quiet = ["-f", "-q", "--runas", "0", "-t", "none", "-u", "none", "-T", "none", "-U", "none"]
    process = _spawn(stack, host, [_program("pasta"), *addresses, *quiet, "--", "sleep", "infinity"])
    for _ in range(_LOOKS):
        for pid in _family(process.pid)[1:]:
            if Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
                return process.pid, f"/proc/{pid}/ns/net"
        time.sleep(_SETUP_TIMEOUT / _LOOKS)
    raise LocalError("pasta has not started its guest; run it by hand to see why")


IMPLEMENTATIONS: Final[dict[str, _Start]] = {"netemu": _netemu, "slirp4netns": _slirp4netns, "pasta": _pasta}
_PACKAGES: Final = {"slirp4netns": "slirp4netns", "pasta": "passt", "nsenter": "util-linux"}
_UPLINK: Final = "uplink"


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise LocalError(f"{name} is not in PATH: install the Debian package {_PACKAGES[name]}")
    return found


def _path(namespace: Namespace) -> str:
    return f"/proc/{os.getpid()}/fd/{namespace.fd}"


def _inside(guest: str) -> list[str]:
    """What stands before a command that is to run in a guest (nsenter(1))."""
    return [_program("nsenter"), f"--net={guest}"]


def _spawn(
    stack: ExitStack,
    namespace: Namespace | None,
    arguments: Sequence[str],
    *,
    stdout: int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[str]:
    """Start a program, inside of `namespace` if one is given, and end it with the stack."""

    def start(command: Sequence[str | Path]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            text=True,
            pass_fds=pass_fds,
            start_new_session=True,
        )

    process = (HERE if namespace is None else namespace).start(start, die_with_us(arguments))

    def end() -> None:
        for pid in _family(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=_SETUP_TIMEOUT)

    stack.callback(end)
    return process


def _family(pid: int) -> list[int]:
    """A process and its children, as far as they live."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(each for child in children for each in _family(int(child)))]


def _cpu_seconds(pid: int) -> float:
    fields = (Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in _family(pid))
    return sum(int(each[11]) + int(each[12]) for each in fields) / _TICKS  # utime and stime (proc(5))


def _resident(pid: int) -> int:
    return sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in _family(pid)) * _PAGE


# The laboratory


@contextmanager
def _host() -> Iterator[Namespace]:
    """A host with an address, a way out that leads nowhere, and the server of the traffic."""
    with ExitStack() as stack:
        host = stack.enter_context(Namespace("bench-host"))
        host.set_ping_group_range(*_EVERYBODY)
        host.add_bridge(_UPLINK)
        host.add_address(f"{SERVER}/24", _UPLINK)
        host.add_route("0.0.0.0/0", link=_UPLINK)
        server = _spawn(stack, host, _traffic("serve"), stdout=subprocess.PIPE)
        _expect(server.stdout, "ready")
        yield host


def _traffic(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "netemu.bench.traffic", *arguments]


def _expect(stream: IO[str] | None, word: str) -> None:
    if stream is None or stream.readline().strip() != word:
        raise LocalError(f"the traffic program ended before it said {word!r}")


def _measure(side: _Side, measure: Measure, mtu: int, seconds: float, into: Comparison) -> None:
    """Make one figure, or say why there is none."""
    key = (measure.name, mtu, side.name)
    if key in into.missing:
        return
    with ExitStack() as stack:

        def start(command: str, seconds: float, *sizes: str) -> subprocess.Popen[str]:
            arguments = [*_inside(side.guest), *_traffic(command, SERVER, str(seconds), *sizes)]
            return _spawn(stack, None, arguments, stdout=subprocess.PIPE)

        if measure.load:
            start(measure.load[0], seconds + _LOAD_AFTER)
        command, *sizes = measure.traffic
        before, resident = _cpu_seconds(side.pid), _resident(side.pid)
        process = start(command, seconds, *sizes)
        alarm = stack.enter_context(_Alarm(process, seconds + _EXTRA_TIME))
        if command == "flows" and process.stdout is not None and process.stdout.readline():
            octets = (_resident(side.pid) - resident) / float(sizes[0])
            into.add(f"memory-{sizes[0]}-flows", mtu, side.name, octets, "octets", more_is_better=False)
        output = process.communicate("\n")[0]
        spent = _cpu_seconds(side.pid) - before
        if process.returncode or not output:
            into.missing[key] = "it took too long" if alarm.rang else "the traffic program failed"
            return
        figure: dict[str, float] = json.loads(output)
    into.add(measure.name, mtu, side.name, figure["value"], measure.unit, more_is_better=measure.more_is_better)
    if command.startswith("tcp"):
        into.add(f"cpu-{measure.name}", mtu, side.name, spent / figure["octets"] * 1e9, "s/GB", more_is_better=False)


class _Alarm:
    """Kills `process` when it runs for longer than `seconds`."""

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        from threading import Timer

        self.rang = False
        self._process = process
        self._timer = Timer(seconds, self._ring)

    def _ring(self) -> None:
        self.rang = True
        self._process.kill()

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._timer.cancel()


def _wait_for_guest(side: _Side) -> None:
    """Until the guest reaches the server, which may take until the implementation has set up its TAP."""
    arguments = [*_inside(side.guest), *_traffic("reach", SERVER, str(_SETUP_TIMEOUT))]
    done = subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=2 * _SETUP_TIMEOUT)
    if done.returncode:
        raise LocalError(f"the guest of {side.name} does not reach the host; run {side.name} by hand to see why")


def compare(
    rounds: int,
    seconds: float,
    measures: Sequence[Measure] = MEASURES,
    implementations: Sequence[str] = tuple(IMPLEMENTATIONS),
    progress: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Run every measure `rounds` times for `seconds` on each implementation. Raises `LocalError` for what is not installed."""
    done = Comparison()
    with _host() as host:
        for mtu in sorted({mtu for measure in measures for mtu in measure.mtus}):
            with ExitStack() as stack:
                sides = []
                for name in implementations:
                    sides.append(_Side(name, *IMPLEMENTATIONS[name](stack, host, mtu)))
                    _wait_for_guest(sides[-1])
                for measure in measures:
                    for _ in range(rounds if mtu in measure.mtus else 0):
                        for side in sides:
                            progress(f"{measure.name} mtu {mtu} {side.name}")
                            _measure(side, measure, mtu, seconds, done)
    return done
