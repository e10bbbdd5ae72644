"""The process that libslirp runs in: `python -m netemu.peers.libslirp_child FD`.

libslirp is C code that is given hostile frames; if it crashes, this process dies and nothing else. It is a servant: one request
on the socket FD, any number of frames and one answer back, then it waits for the next. Every request brings the time, so the
library lives in the network's clock, and ends with a turn: ask libslirp which descriptors it waits for, look at them without
waiting, tell it.

The first message of all, from here, carries an epoll descriptor that is readable whenever another turn is worth while.

A request is `OP`, the time (8 octets, nanoseconds) and a body: a frame for `FRAME`, JSON or nothing for the others. An answer is
`FRAME` and a frame that libslirp sends, or `DONE` and JSON: `timeout` (milliseconds until it wants a turn) and `result`.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import struct
import sys
from typing import Final

from netemu.peers import libslirp_abi as abi

__all__ = ["ADD_FORWARD", "DONE", "FRAME", "HEADER", "IDLE", "LARGEST", "NEW", "NOBODY", "REMOVE_FORWARD", "TURN", "main"]

NEW, FRAME, TURN, ADD_FORWARD, REMOVE_FORWARD, DONE = range(6)
HEADER: Final = struct.Struct("!Bq")  # operation, time
LARGEST: Final = 70_000  # octets of a message: a frame of 64 KB and some JSON

NOBODY: Final = 65_534  # uid and gid of the process
IDLE: Final = 1000  # ms: what slirp_pollfds_fill leaves of this timeout when it waits for nothing

# libslirp's event bits and epoll's. What is asked for is a subset of what may be reported.
_ASKED: Final = ((abi.POLL_IN, select.EPOLLIN), (abi.POLL_OUT, select.EPOLLOUT), (abi.POLL_PRI, select.EPOLLPRI))
_REPORTED: Final = (*_ASKED, (abi.POLL_ERR, select.EPOLLERR), (abi.POLL_HUP, select.EPOLLHUP))


class _Servant:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._now = 0
        self._epoll = select.epoll()
        self._registered: dict[int, int] = {}
        self._polled: list[tuple[int, int]] = []
        self._errors: list[str] = []
        self._library = abi.load()
        self._callbacks = self._make_callbacks()
        self._add_poll = abi.ADD_POLL(self._on_add_poll)
        self._slirp: int | None = None
        socket.send_fds(control, [HEADER.pack(DONE, 0)], [self._epoll.fileno()])

    def _make_callbacks(self) -> abi.SlirpCb:
        def send_packet(buffer: int, length: int, _opaque: int | None) -> int:
            self._control.send(HEADER.pack(FRAME, self._now) + ctypes.string_at(buffer, length))
            return length

        def guest_error(message: bytes, _opaque: int | None) -> None:
            self._errors.append(message.decode(errors="replace").strip())

        def unregister(fd: int, _opaque: int | None) -> None:
            if self._registered.pop(fd, 0):
                self._epoll.unregister(fd)

        def nothing(*_arguments: object) -> None:
            """A callback without use here: descriptors are asked for anew at every turn, and the only timer is IPv6's."""

        return abi.SlirpCb(
            send_packet=abi.SEND_PACKET(send_packet),
            guest_error=abi.GUEST_ERROR(guest_error),
            clock_get_ns=abi.CLOCK_GET_NS(lambda _opaque: self._now),
            timer_new=abi.TIMER_NEW(lambda *_arguments: None),
            timer_free=abi.TIMER_FREE(nothing),
            timer_mod=abi.TIMER_MOD(nothing),
            register_poll_fd=abi.POLL_FD(nothing),
            unregister_poll_fd=abi.POLL_FD(unregister),
            notify=abi.NOTIFY(nothing),
            init_completed=abi.INIT_COMPLETED(nothing),
            timer_new_opaque=abi.TIMER_NEW_OPAQUE(lambda *_arguments: None),
        )

    def _on_add_poll(self, fd: int, events: int, _opaque: int | None) -> int:
        self._polled.append((fd, events))
        return len(self._polled) - 1

    def serve(self) -> None:
        while message := self._control.recv(LARGEST):
            operation, self._now = HEADER.unpack_from(message)
            result = _OPERATIONS[operation](self, message[HEADER.size :])
            answer = {"timeout": self._turn(), "result": result, "errors": self._errors}
            self._control.send(HEADER.pack(DONE, self._now) + json.dumps(answer).encode())
            self._errors = []

    def _new(self, body: bytes) -> object:
        settings = json.loads(body)
        addresses = {name: _in_addr(settings[name]) for name in ("vnetwork", "vnetmask", "vhost", "vdhcp_start", "vnameserver")}
        addresses6 = {name: _in6_addr(settings[name]) for name in ("vprefix_addr6", "vhost6", "vnameserver6")}
        config = abi.SlirpConfig(
            version=abi.config_version(abi.version(self._library)),
            restricted=settings["restricted"],
            in_enabled=settings["in_enabled"],
            in6_enabled=settings["in6_enabled"],
            vprefix_len=settings["vprefix_len"],
            vhostname=_text(settings["vhostname"]),
            vdomainname=_text(settings["vdomainname"]),
            tftp_server_name=_text(settings["tftp_server_name"]),
            tftp_path=_text(settings["tftp_path"]),
            bootfile=_text(settings["bootfile"]),
            if_mtu=settings["if_mtu"],
            if_mru=settings["if_mtu"],
            **addresses,
            **addresses6,
        )
        self._slirp = self._library.slirp_new(ctypes.byref(config), ctypes.byref(self._callbacks), None)
        return self._slirp is not None

    def _frame(self, body: bytes) -> object:
        self._library.slirp_input(self._slirp, body, len(body))
        return None

    def _nothing(self, body: bytes) -> object:
        del body  # a turn follows every request
        return None

    def _add_forward(self, body: bytes) -> object:
        """The port it listens on, or the errno as a negative number. Its connection table tells which port it got for 0."""
        rule = json.loads(body)
        before = self._listening()
        ctypes.set_errno(0)
        refused = self._library.slirp_add_hostfwd(
            self._slirp, rule["udp"], _in_addr(rule["host"]), rule["host_port"], _in_addr(rule["guest"]), rule["guest_port"]
        )
        if refused:
            return -ctypes.get_errno()
        return next(iter(self._listening() - before), rule["host_port"])

    def _remove_forward(self, body: bytes) -> object:
        rule = json.loads(body)
        return self._library.slirp_remove_hostfwd(self._slirp, rule["udp"], _in_addr(rule["host"]), rule["host_port"])

    def _listening(self) -> set[int]:
        """Host ports of the rows `TCP[HOST_FORWARD]  13  127.0.0.1  40001  10.0.2.15  80  0  0`."""
        rows = (line.split() for line in abi.connection_info(self._library, self._slirp).splitlines())
        return {int(row[3]) for row in rows if row and row[0].endswith("[HOST_FORWARD]")}

    def _turn(self) -> int:
        if self._slirp is None:
            return IDLE
        self._fill()
        poller = select.poll()  # its bits are epoll's (epoll_ctl(2))
        for fd, events in self._polled:
            poller.register(fd, _translate(events, _ASKED))
        ready = dict(poller.poll(0))
        revents = [_translate_back(ready.get(fd, 0), _REPORTED) for fd, _ in self._polled]
        self._library.slirp_pollfds_poll(self._slirp, 0, abi.GET_REVENTS(lambda index, _opaque: revents[index]), None)
        timeout = self._fill()
        self._register()
        return timeout

    def _fill(self) -> int:
        self._polled.clear()
        timeout = ctypes.c_uint32(IDLE)
        self._library.slirp_pollfds_fill(self._slirp, ctypes.byref(timeout), self._add_poll, None)
        return timeout.value

    def _register(self) -> None:
        """The epoll descriptor speaks of what libslirp waits for now, and of nothing else."""
        wanted = {fd: _translate(events, _ASKED) for fd, events in self._polled}
        for fd in self._registered.keys() - wanted.keys():
            self._epoll.unregister(fd)
        for fd, events in wanted.items():
            if fd not in self._registered:
                self._epoll.register(fd, events)
            elif self._registered[fd] != events:
                self._epoll.modify(fd, events)
        self._registered = wanted


_OPERATIONS: Final = {
    NEW: _Servant._new,
    FRAME: _Servant._frame,
    TURN: _Servant._nothing,
    ADD_FORWARD: _Servant._add_forward,
    REMOVE_FORWARD: _Servant._remove_forward,
}


def _in6_addr(address: str) -> abi.In6Addr:
    return abi.In6Addr.from_buffer_copy(socket.inet_pton(socket.AF_INET6, address))


def _in_addr(address: str) -> abi.InAddr:
    return abi.InAddr(int.from_bytes(socket.inet_aton(address), sys.byteorder))


def _text(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _translate(events: int, table: tuple[tuple[int, int], ...]) -> int:
    return sum(theirs for ours, theirs in table if events & ours)


def _translate_back(events: int, table: tuple[tuple[int, int], ...]) -> int:
    return sum(ours for ours, theirs in table if events & theirs)


def _become_nobody() -> None:
    """QEMU rarely runs as root, and with privileges libslirp would ping over raw sockets whatever ping_group_range says."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def main() -> None:
    """Serve until the socket's other end is closed."""
    _become_nobody()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        _Servant(control).serve()
    os._exit(0)  # libslirp's sockets go with the process; its own clean-up has nothing to add


if __name__ == "__main__":
    main()
