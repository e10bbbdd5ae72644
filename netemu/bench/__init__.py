"""Benchmarks that come with netemu: what one network costs, what TCP costs, what the suite costs.

Each runs whole, several times, in this process; the figures are wall-clock seconds of each run. The network's own time is
virtual in all of them, so nothing waits and the machine's speed is all that is measured.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from netemu.net.sockets import StreamSocket
from netemu.network import Network

__all__ = ["BENCHES", "Bench", "Figures", "measure", "plot"]

_PORT: Final = 5001
_TCP_OCTETS: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Bench:
    """A benchmark: what one run does, and `octets` it moves (0 where that is no question)."""

    what: str
    once: Callable[[], None]
    octets: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds of each run of the benchmark `name`, in order."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float | None:
        """Megabits a second of the median run, where octets are moved."""
        octets = BENCHES[self.name].octets
        return octets * 8 / self.median / 1e6 if octets else None

    def __str__(self) -> str:
        low, high = min(self.seconds), max(self.seconds)
        rate = "" if self.rate is None else f", {self.rate:.0f} Mbit/s"
        return f"median {_text(self.median)}, min {_text(low)}, max {_text(high)} of {len(self.seconds)} runs{rate}"


def _text(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def _fixture() -> None:
    with Network() as network:
        network.guest(netdev=network.netdev()).dhcp4()


def _tcp() -> None:
    with Network() as network:
        guest = network.guest(netdev=network.netdev())
        guest.dhcp4()
        arrived = 0

        def accept(socket: StreamSocket) -> None:
            def drain() -> None:
                nonlocal arrived
                count = socket.available()
                socket.discard(count)
                arrived += count

            socket.on_change = drain

        with network.host.tcp_listen("127.0.0.1", _PORT) as listener:
            listener.serve(accept)
            with guest.tcp_connect("10.0.2.2", _PORT) as stream:
                stream.send(bytes(_TCP_OCTETS), timeout=600)
                network.run_until(lambda: arrived == _TCP_OCTETS, timeout=600, what="the last octet's arrival")


def _suite() -> None:
    from pytest_netemu.conformance import package_of, run

    with tempfile.TemporaryDirectory() as directory:
        run(package_of("user-network"), Path(directory))


BENCHES: Final = {
    "fixture": Bench("a fresh network, a guest on a user-mode network, and its lease", _fixture),
    "tcp": Bench("10 MB from a guest through the user-mode network to the host", _tcp, _TCP_OCTETS),
    "suite": Bench("the conformance suite of the user-network wall on our own user-mode network", _suite),
}


def measure(name: str, runs: int) -> Figures:
    """Run the benchmark `runs` times, after one run that is not counted."""
    once = BENCHES[name].once
    once()
    seconds = []
    for _ in range(runs):
        begun = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - begun)
    return Figures(name, tuple(seconds))


_WIDTH: Final = 640
_HEIGHT: Final = 280
_LEFT, _TOP, _BOTTOM = 64, 44, 36


def plot(figures: Figures) -> str:
    """The runs as an SVG drawing: a bar a run, the median as a line."""
    top = max(figures.seconds) * 1.1
    room = _HEIGHT - _TOP - _BOTTOM
    step = (_WIDTH - _LEFT - 16) / len(figures.seconds)

    def height(seconds: float) -> float:
        return _TOP + room * (1 - seconds / top)

    bars = [_bar(_LEFT + place * step, height(seconds), step, seconds) for place, seconds in enumerate(figures.seconds)]
    marks = [_mark(height(top * part / 4), _text(top * part / 4)) for part in range(5)]
    median = height(figures.median)
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fbfaf7"/>',
            f'<text x="{_LEFT}" y="24" font-size="14" fill="#1c2430">{escape(figures.name)}: {escape(str(figures))}</text>',
            *marks,
            *bars,
            f'<path d="M{_LEFT} {median:.1f}H{_WIDTH - 16}" stroke="#b3382c" stroke-dasharray="4 3"/>',
            f'<text x="{_LEFT}" y="{_HEIGHT - 12}" fill="#5b6675">{escape(BENCHES[figures.name].what)}</text>',
            "</svg>\n",
        )
    )


def _bar(left: float, top: float, step: float, seconds: float) -> str:
    place = f'x="{left + 1:.1f}" y="{top:.1f}" width="{max(step - 2, 1):.1f}" height="{_HEIGHT - _BOTTOM - top:.1f}"'
    return f'<rect {place} fill="#2f5d8a"><title>{_text(seconds)}</title></rect>'


def _mark(place: float, text: str) -> str:
    line = f'<path d="M{_LEFT} {place:.1f}H{_WIDTH - 16}" stroke="#e3e0d8"/>'
    return f'{line}<text x="{_LEFT - 6}" y="{place + 4:.1f}" text-anchor="end" fill="#5b6675">{text}</text>'
