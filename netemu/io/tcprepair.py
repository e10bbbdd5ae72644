"""Taking a TCP connection out of a socket and putting it into another: Linux's TCP_REPAIR (include/net/tcp.h, tcp(7), CRIU's wiki).

A socket in repair mode is a window on its connection: sequence numbers, both queues and both windows can be read, the timestamp
clock too; it says nothing when it is closed, and `connect` makes a connection without a word to the peer. It takes CAP_NET_ADMIN in
the user namespace of the socket's network namespace.

`freeze` first attaches a filter that drops every segment for the socket, so that nothing is acknowledged that is not in what is
read next; the peer sends it again later. The frozen socket is kept until the new one takes its place (`thaw` has it closed just
before it connects), for a kernel without a socket would answer the peer by RST. Its timers still run. What it repeats does no harm:
the octets and their numbers are the same. What it sends for the first time, within the peer's window, has to count as sent, for
the new socket would take the acknowledgment of what it has not sent for an attack: `count_unsent` tells, and where it cannot be
asked any more, everything within the window counts.

`thaw` follows CRIU's order: numbers, bind, connect, options, timestamp, receive queue, what was sent and not acknowledged, FIN,
windows. Leaving repair mode sends a window probe, which tells the peer that somebody is there. What was never sent is sent after
that.

A FIN of the peer's cannot be put into a receive queue. The new socket starts behind it, so its kernel never learns of it; whoever
holds it has to know (`StreamSnapshot.eof`).

Not moved: octets out of order (the peer sends them again), urgent data, socket options, TCP-MD5 and TCP-AO keys, MPTCP.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from netemu.errors import HostError
from netemu.io.streamstate import StreamOptions, StreamSnapshot, StreamWindow
from netemu.wire.address import Endpoint

__all__ = ["count_unsent", "freeze", "may_repair", "revive", "thaw"]

# linux/tcp.h
_TCP_REPAIR: Final = 19
_TCP_REPAIR_QUEUE: Final = 20
_TCP_QUEUE_SEQ: Final = 21
_TCP_REPAIR_OPTIONS: Final = 22
_TCP_TIMESTAMP: Final = 24
_TCP_REPAIR_WINDOW: Final = 29
_NO_QUEUE: Final = 0
_RECEIVE_QUEUE: Final = 1
_SEND_QUEUE: Final = 2
_INFO: Final = struct.Struct("=5xBB")  # struct tcp_info: tcpi_options, the two shifts
_TCPI_OPT_TIMESTAMPS: Final = 1
_TCPI_OPT_SACK: Final = 2
_TCPI_OPT_WSCALE: Final = 4
_WINDOW: Final = struct.Struct("=5I")  # struct tcp_repair_window
_OPTION: Final = struct.Struct("=II")  # struct tcp_repair_opt: kind, value
_MSS, _SHIFT, _SACK, _TIMESTAMPS = 2, 3, 4, 8  # kinds (RFC 9293 3.2, RFC 7323 2.2 and 3.2, RFC 2018 2)

_SIOCOUTQNSD: Final = 0x894B  # linux/sockios.h
_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_SO_BUF_LOCK: Final = 72
_SO_DETACH_FILTER: Final = 27
_SO_PEEK_OFF: Final = 42
_DROP: Final = struct.pack("=HBBI", 0x06, 0, 0, 0)  # struct sock_filter: return 0 octets, so the segment is dropped
_PROGRAM: Final = struct.Struct("@HP")  # struct sock_fprog
_NUMBER: Final = struct.Struct("=I")
_LARGEST_MSS: Final = 32_767  # that TCP_MAXSEG takes (MAX_TCP_WINDOW, net/tcp.h)
_MASK: Final = 0xFFFFFFFF
_BATCH: Final = 65_536


def may_repair(sock: socket.socket) -> bool:
    """May this thread put `sock`, a new TCP socket, into repair mode?"""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
    except OSError:
        return False
    return True


def freeze(sock: socket.socket, local: Endpoint, remote: Endpoint, *, finished: bool, eof: bool) -> StreamSnapshot:
    """What the connection of `sock` is; from now on it hears nothing. `HostError` if it may not be read, it is as before then.

    `finished`, `eof`: a FIN was sent, or has come.
    """
    try:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
    except OSError as error:
        raise HostError(error.errno or errno.EIO, f"move the connection {local} -> {remote}, which needs CAP_NET_ADMIN") from None
    try:
        _drop_everything(sock)
        return _read(sock, local, remote, finished=finished, eof=eof)
    except OSError as error:
        revive(sock)
        raise HostError(error.errno or errno.EIO, f"read the connection {local} -> {remote}") from None


def revive(sock: socket.socket) -> None:
    """End what `freeze` began: the socket hears and speaks again."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 0)


def _read(sock: socket.socket, local: Endpoint, remote: Endpoint, *, finished: bool, eof: bool) -> StreamSnapshot:
    options, shifts = _INFO.unpack_from(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size))
    scaled = options & _TCPI_OPT_WSCALE
    window = StreamWindow(*_WINDOW.unpack(sock.getsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_WINDOW, _WINDOW.size)))
    sock.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, 0)
    received, receive_sequence = _read_queue(sock, _RECEIVE_QUEUE, _ioctl(sock, termios.FIONREAD))
    taken, after_taken = _read_queue(sock, _SEND_QUEUE, _ioctl(sock, termios.TIOCOUTQ))
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_QUEUE, _NO_QUEUE)
    agreed = StreamOptions(
        mss=sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG),
        send_shift=shifts & 15 if scaled else None,
        receive_shift=shifts >> 4 if scaled else None,
        sack=bool(options & _TCPI_OPT_SACK),
        timestamp=sock.getsockopt(socket.IPPROTO_TCP, _TCP_TIMESTAMP) & _MASK if options & _TCPI_OPT_TIMESTAMPS else None,
    )
    return StreamSnapshot(
        local=local,
        remote=remote,
        send_sequence=after_taken - finished - len(taken) & _MASK,
        receive_sequence=receive_sequence,
        taken=taken,
        unsent=min(max(count_unsent(sock) - finished, 0), len(taken)),
        received=received,
        finished=finished,
        eof=eof,
        options=agreed,
        window=window,
    )


def count_unsent(sock: socket.socket) -> int:
    """The octets that a frozen socket has not sent by now, and its FIN if that waits with them."""
    return _ioctl(sock, _SIOCOUTQNSD)


def thaw(sock: socket.socket, state: StreamSnapshot, received: bytes, end_old: Callable[[], int | None]) -> None:
    """Let `sock`, which is new, go on with `state`, with `received` of its octets to be read from it; raises `HostError`.

    `end_old` is called when everything is prepared: it closes the frozen socket, if that is here, and gives what `count_unsent`
    said at last; None if it is not.
    """
    options, window = state.options, state.window
    what = f"move the connection {state.local} -> {state.remote} here"
    if options is None or window is None:
        raise HostError(errno.EINVAL, f"{what}: it was another kind of host's")
    try:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
        _set_number(sock, _SEND_QUEUE, state.send_sequence)
        _set_number(sock, _RECEIVE_QUEUE, state.receive_sequence - len(received) & _MASK)
        if options.mss:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, min(options.mss, _LARGEST_MSS))  # else it begins with 536
        sock.bind((str(state.local.address), state.local.port))
        unsent = end_old()
        sock.connect((str(state.remote.address), state.remote.port))
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_OPTIONS, _agreed(options))
        if options.timestamp is not None:
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_TIMESTAMP, _NUMBER.pack(options.timestamp))
        _make_room(sock, len(state.taken), len(received))
        _fill(sock, _RECEIVE_QUEUE, received)
        if unsent is None:
            sent = min(max(len(state.taken) - state.unsent, window.snd_wnd), len(state.taken))
        else:
            sent = min(max(len(state.taken) - unsent + state.finished, 0), len(state.taken))
        _fill(sock, _SEND_QUEUE, state.taken[:sent])
        if state.finished and sent == len(state.taken):
            sock.shutdown(socket.SHUT_WR)
        sock.setsockopt(
            socket.IPPROTO_TCP,
            _TCP_REPAIR_WINDOW,
            _WINDOW.pack(window.snd_wl1, window.snd_wnd, window.max_window, window.rcv_wnd, window.rcv_wup),
        )
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a socket that a listener accepted has it
        _send_all(sock, state.taken[sent:])
        if state.finished and sent < len(state.taken):
            sock.shutdown(socket.SHUT_WR)
    except OSError as error:
        raise HostError(error.errno or errno.EIO, what) from None


def _drop_everything(sock: socket.socket) -> None:
    program = ctypes.create_string_buffer(_DROP, len(_DROP))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _PROGRAM.pack(1, ctypes.addressof(program)))


def _read_queue(sock: socket.socket, queue: int, size: int) -> tuple[bytes, int]:
    """The octets of a queue, and the number behind them (and behind a FIN)."""
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_QUEUE, queue)
    number = sock.getsockopt(socket.IPPROTO_TCP, _TCP_QUEUE_SEQ) & _MASK
    return sock.recv(size, socket.MSG_PEEK | socket.MSG_DONTWAIT) if size else b"", number


def _set_number(sock: socket.socket, queue: int, number: int) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_QUEUE, queue)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_QUEUE_SEQ, _NUMBER.pack(number))


def _fill(sock: socket.socket, queue: int, octets: bytes) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_QUEUE, queue)
    _send_all(sock, octets)


def _send_all(sock: socket.socket, octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        view = view[sock.send(view[:_BATCH], socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT) :]


def _make_room(sock: socket.socket, sent: int, received: int) -> None:
    """Buffers that hold what the old ones held; the kernel goes on to tune them where it can be told to (since Linux 5.14)."""
    for option, force, octets in (
        (socket.SO_SNDBUF, _SO_SNDBUFFORCE, sent),
        (socket.SO_RCVBUF, _SO_RCVBUFFORCE, received),
    ):
        if 2 * octets > sock.getsockopt(socket.SOL_SOCKET, option):
            sock.setsockopt(socket.SOL_SOCKET, force, 2 * octets)
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, _SO_BUF_LOCK, 0)


def _agreed(options: StreamOptions) -> bytes:
    agreed = _OPTION.pack(_MSS, options.mss)
    if options.send_shift is not None and options.receive_shift is not None:
        agreed += _OPTION.pack(_SHIFT, options.send_shift | options.receive_shift << 16)
    if options.sack:
        agreed += _OPTION.pack(_SACK, 0)
    if options.timestamp is not None:
        agreed += _OPTION.pack(_TIMESTAMPS, 0)
    return agreed


def _ioctl(sock: socket.socket, request: int) -> int:
    count: int = struct.unpack("i", fcntl.ioctl(sock, request, bytes(4)))[0]
    return count
