"""The traffic that a network under measurement carries: one small pair of programs, the same for every network.

    python -m netemu.bench.traffic serve               on the host's side; says `ready` on standard output
    python -m netemu.bench.traffic MEASURE SERVER ...  in the guest; says its figures as one line of JSON

The server's ports: 5001 takes octets, 5002 gives octets, 5003 answers each octet with one, 5004 counts datagrams, 5005 sends
datagrams to whoever asks (`size seconds`), 5006 tells the count of 5004 and begins a new one. Rates are of what arrived.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import statistics
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["MEASURES", "PINGED", "SERVER", "main"]

SERVER: Final = "192.0.2.1"
PINGED: Final = "10.0.2.2"

_TAKE, _GIVE, _ECHO, _COUNT, _SEND, _COUNTED = range(5001, 5007)
_CHUNK: Final = 262_144  # octets of one read or write
_BUFFER: Final = 8_388_608  # octets of a UDP socket's receive buffer, so that the traffic program is not what loses
_SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h
_PING_TIMEOUT: Final = 1.0  # seconds
_TRANSFER_START: Final = 0.3  # seconds of a bulk transfer that are not counted: slow start
_TAKEN: Final = struct.Struct("!QQd")  # octets, those after the start, seconds that those took
_CONNECT_TIMEOUT: Final = 5.0  # seconds


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


# The host's side


def _serve() -> None:
    counted = [0]
    for run in (_take, _give, lambda: _count(counted), _send, lambda: _tell(counted)):
        threading.Thread(target=run, daemon=True).start()
    _echo()


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("", port))
    listener.listen(4096)
    return listener


def _each(port: int, handle: Callable[[socket.socket], None]) -> None:
    listener = _listen(port)

    def run(connection: socket.socket) -> None:
        with connection:
            try:
                handle(connection)
            except OSError:
                return  # the guest's end is gone

    while True:
        threading.Thread(target=run, args=(listener.accept()[0],), daemon=True).start()


def _take() -> None:
    def handle(connection: socket.socket) -> None:
        buffer = bytearray(_CHUNK)
        total, early, begun = 0, 0, time.monotonic() + _TRANSFER_START
        while count := connection.recv_into(buffer):
            total += count
            if time.monotonic() < begun:
                early = total
        connection.sendall(_TAKEN.pack(total, total - early, time.monotonic() - begun))

    _each(_TAKE, handle)


def _give() -> None:
    def handle(connection: socket.socket) -> None:
        octets = bytes(_CHUNK)
        while True:
            connection.sendall(octets)

    _each(_GIVE, handle)


def _echo() -> None:
    listener, epoll = _listen(_ECHO), select.epoll()
    epoll.register(listener, select.EPOLLIN)
    open_: dict[int, socket.socket] = {}
    _say("ready")
    while True:
        for fd, _ in epoll.poll():
            if fd == listener.fileno():
                connection = listener.accept()[0]
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                open_[connection.fileno()] = connection
                epoll.register(connection, select.EPOLLIN)
                continue
            connection = open_[fd]
            try:
                octets = connection.recv(_CHUNK)
                connection.send(octets)
            except OSError:
                octets = b""
            if not octets:
                epoll.unregister(fd)
                open_.pop(fd).close()


def _udp(port: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    sock.bind(("", port))
    return sock


def _count(counted: list[int]) -> None:
    sock, buffer = _udp(_COUNT), bytearray(65_536)
    while True:
        sock.recv_into(buffer)
        counted[0] += 1


def _tell(counted: list[int]) -> None:
    def handle(connection: socket.socket) -> None:
        connection.sendall(struct.pack("!Q", counted[0]))
        counted[0] = 0

    _each(_COUNTED, handle)


def _send() -> None:
    sock = _udp(_SEND)
    while True:
        asked, guest = sock.recvfrom(100)
        size, seconds = asked.split()
        octets, end = bytes(int(size)), time.monotonic() + float(seconds)
        while time.monotonic() < end:
            for _ in range(32):
                sock.sendto(octets, guest)


# The guest's side


def _connect(server: str, port: int) -> socket.socket:
    return socket.create_connection((server, port), _CONNECT_TIMEOUT)


def _tcp_up(server: str, seconds: float) -> dict[str, float]:
    with _connect(server, _TAKE) as connection:
        octets, end = memoryview(bytes(_CHUNK)), time.monotonic() + seconds + _TRANSFER_START
        while time.monotonic() < end:
            connection.send(octets)
        connection.shutdown(socket.SHUT_WR)
        total, counted, taken = _TAKEN.unpack(connection.recv(_TAKEN.size, socket.MSG_WAITALL))
    return {"value": counted * 8 / taken / 1e9, "octets": total}


def _tcp_down(server: str, seconds: float) -> dict[str, float]:
    buffer = bytearray(_CHUNK)
    with _connect(server, _GIVE) as connection:
        begun, total, early = time.monotonic() + _TRANSFER_START, 0, 0
        while (now := time.monotonic()) < begun + seconds:
            total += connection.recv_into(buffer)
            if now < begun:
                early = total
        taken = time.monotonic() - begun
    return {"value": (total - early) * 8 / taken / 1e9, "octets": total}


def _udp_up(server: str, seconds: float, size: float) -> dict[str, float]:
    with _connect(server, _COUNTED) as connection:
        connection.recv(8, socket.MSG_WAITALL)
    octets, target = bytes(int(size)), (server, _COUNT)
    with _udp() as sock:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(32):
                sock.sendto(octets, target)
        time.sleep(0.1)
    with _connect(server, _COUNTED) as connection:
        (count,) = struct.unpack("!Q", connection.recv(8, socket.MSG_WAITALL))
    return {"value": count / seconds, "octets": count * size}


def _udp_down(server: str, seconds: float, size: float) -> dict[str, float]:
    buffer, count = bytearray(65_536), 0
    with _udp() as sock:
        sock.sendto(f"{size:.0f} {seconds}".encode(), (server, _SEND))
        sock.settimeout(0.3)
        end = time.monotonic() + seconds + 0.3
        try:
            while time.monotonic() < end:
                sock.recv_into(buffer)
                count += 1
        except TimeoutError:
            pass
    return {"value": count / seconds, "octets": count * size}


def _reach(server: str, seconds: float) -> dict[str, float]:
    """Wait for a connection, then let root ping."""
    end = time.monotonic() + seconds
    while True:
        try:
            _connect(server, _ECHO).close()
            break
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0")
    return {"value": 1}


def _transactions(connections: list[socket.socket], seconds: float) -> float:
    count, begun = 0, time.monotonic()
    while time.monotonic() < begun + seconds:
        connection = connections[count % len(connections)]
        connection.send(b"x")
        if not connection.recv(1):
            raise ConnectionResetError("the connection ended")
        count += 1
    return count / (time.monotonic() - begun)


def _rr(server: str, seconds: float) -> dict[str, float]:
    with _connect(server, _ECHO) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return {"value": _transactions([connection], seconds)}


def _crr(server: str, seconds: float) -> dict[str, float]:
    count, begun = 0, time.monotonic()
    while time.monotonic() < begun + seconds:
        with _connect(server, _ECHO) as connection:
            connection.send(b"x")
            connection.recv(1)
        count += 1
    return {"value": count / (time.monotonic() - begun)}


def _flows(server: str, seconds: float, wanted: float) -> dict[str, float]:
    """Transactions a second over that many open connections in turns; `held` tells the parent when they are open."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    connections = [_connect(server, _ECHO) for _ in range(int(wanted))]
    _transactions(connections, 0.0)
    _say("held")
    sys.stdin.readline()
    rate = _transactions(connections, seconds)
    for connection in connections:
        connection.close()
    return {"value": rate}


def _ping(server: str, seconds: float) -> dict[str, float]:
    """The median round trip in microseconds, an error if no ping is answered; `server` is not what is pinged."""
    del server
    times: list[float] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as sock:
        sock.settimeout(_PING_TIMEOUT)
        sock.connect((PINGED, 0))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            sent = time.perf_counter()
            sock.send(struct.pack("!BBHHH", 8, 0, 0, 0, len(times)) + bytes(48))
            try:
                sock.recv(1500)
            except TimeoutError:
                continue
            times.append(time.perf_counter() - sent)
            time.sleep(0.005)
    return {"value": statistics.median(times) * 1e6}


MEASURES: Final[dict[str, Callable[..., dict[str, float]]]] = {
    "tcp-up": _tcp_up,
    "tcp-down": _tcp_down,
    "udp-up": _udp_up,
    "udp-down": _udp_down,
    "rr": _rr,
    "crr": _crr,
    "flows": _flows,
    "ping": _ping,
    "reach": _reach,
}


def main(arguments: list[str]) -> None:
    """Run one of the two programs."""
    if arguments[0] == "serve":
        _serve()
    else:
        _say(json.dumps(MEASURES[arguments[0]](arguments[1], *map(float, arguments[2:]))))


if __name__ == "__main__":
    main(sys.argv[1:])
