"""The TFTP server of a user-mode network (RFC 1350), sans-IO: packets and the time in, packets out through `send`.

A request to port 69 of the gateway begins a transfer, which has a port of its own there (the transfer identifier, RFC 1350 4).
What comes to that port from another endpoint gets an error and does not disturb the transfer. Files come from a `FileStore`,
which decides what a name means; guests write only where that was allowed, and never over a file that is there.

Options (RFC 2347): `blksize` (RFC 2348), granted up to what one datagram of the network's MTU holds; `tsize` and `timeout` (RFC
2349); `windowsize` (RFC 7440), granted up to 16 blocks. What is not understood, or not in its range, is left out of the answer.

When nothing comes, the packets that wait for an answer are sent again: after a second, then after twice as long each time (RFC
1123 4.2.3.2), or at the interval agreed on. After five times the transfer ends. A receiver that has everything stays for one
more interval, in case its last acknowledgment was lost (RFC 1350 6).

There are 20 transfers at a time, libslirp's number. One more takes the place of the oldest of whoever has the most. A request that
is repeated before the first answer to it is that transfer's, not a new one. Mode `mail` is refused (RFC 1350 1: obsolete).
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from netemu.errors import HostError
from netemu.net.clock import SECOND
from netemu.stack.ip import choose_port
from netemu.user.flow import Flow
from netemu.user.netascii import NetasciiReader, NetasciiWriter
from netemu.user.tftp_transfer import Receiver, Sender, Sink, Source
from netemu.wire import tftp
from netemu.wire.address import Endpoint
from netemu.wire.tftp import ErrorCode, Opcode

__all__ = ["FileReader", "FileStore", "FileWriter", "TftpServer"]

_TRANSFERS: Final = 20
_INTERVAL: Final = SECOND
_TRIES: Final = 5
_HEADERS: Final = {4: 20 + 8 + 4, 6: 40 + 8 + 4}  # octets of IP, UDP and DATA around a block
_LARGEST_WINDOW: Final = 16  # blocks
_LARGEST_FILE: Final = 1 << 28  # octets that a guest may write
_BLOCK_SIZES: Final = range(8, 65_464 + 1)  # RFC 2348
_TIMEOUTS: Final = range(1, 255 + 1)  # seconds, RFC 2349
_WINDOWS: Final = range(1, 65_535 + 1)  # RFC 7440 3
_SIZES: Final = range(1 << 63)

# What a guest is told where the file store refuses. What is not here is "not defined".
_REASONS: Final = {
    errno.ENOENT: (ErrorCode.FILE_NOT_FOUND, "file not found"),
    errno.ENOTDIR: (ErrorCode.FILE_NOT_FOUND, "file not found"),
    errno.EACCES: (ErrorCode.ACCESS_VIOLATION, "access violation"),
    errno.EPERM: (ErrorCode.ACCESS_VIOLATION, "access violation"),
    errno.EISDIR: (ErrorCode.ACCESS_VIOLATION, "not a file"),
    errno.EXDEV: (ErrorCode.ACCESS_VIOLATION, "outside of what is served"),
    errno.EEXIST: (ErrorCode.FILE_EXISTS, "file already exists"),
    errno.ENOSPC: (ErrorCode.DISK_FULL, "disk full"),
    errno.EFBIG: (ErrorCode.DISK_FULL, "file too large"),
}


class FileReader(Source, Protocol):
    """A file to be read, from its beginning."""

    @property
    def size(self) -> int: ...
    def close(self) -> None: ...


class FileWriter(Sink, Protocol):
    """A new file; until `commit` nobody else sees it, and `close` without one leaves nothing behind."""

    def close(self) -> None: ...


class FileStore(Protocol):
    """The files that are served. Refusals are `HostError`s: ENOENT, EISDIR, EXDEV (outside), EEXIST, ENOSPC."""

    def open(self, name: str) -> FileReader: ...
    def create(self, name: str) -> FileWriter: ...


class _Upload:
    """A guest's file on its way to `writer`, at most 256 MiB of it."""

    def __init__(self, writer: FileWriter, mode: str) -> None:
        self._writer = writer
        self._text = NetasciiWriter(writer) if mode == "netascii" else None
        self._left = _LARGEST_FILE

    def write(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise HostError(errno.EFBIG, "write a file of a guest's")
        (self._text or self._writer).write(data)

    def commit(self) -> None:
        if self._text is not None:
            self._text.flush()
        self._writer.commit()


@dataclass(slots=True, eq=False)
class _Transfer:
    guest: Endpoint
    port: int
    request: tftp.Request
    file: FileReader | FileWriter
    state: Sender | Receiver
    interval: int | None  # agreed on
    opened: int
    used: int
    due: int = 0
    tries: int = 0
    begun: bool = False
    sent: int = 0
    received: int = 0


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a request's options come to; `granted` is the OACK's, empty if there is none."""

    granted: Mapping[str, str]

    @property
    def block_size(self) -> int:
        return int(self.granted.get("blksize", tftp.BLOCK_SIZE))

    @property
    def window(self) -> int:
        return int(self.granted.get("windowsize", 1))

    @property
    def interval(self) -> int | None:
        """Nanoseconds between repetitions, where that was agreed on."""
        return int(self.granted["timeout"]) * SECOND if "timeout" in self.granted else None

    @property
    def opening(self) -> tftp.OptionAcknowledgment | None:
        return tftp.OptionAcknowledgment(self.granted) if self.granted else None


class TftpServer:
    """Serves `store`. `send(port, guest, octets, now)` sends a datagram from the server's `port`.

    Counters: `tftp-` and what happened. `mtu`: octets of the largest datagram. `writable`: guests may put files into the store.
    `getrandbits(n)` gives n random bits.
    """

    def __init__(
        self,
        store: FileStore,
        send: Callable[[int, Endpoint, bytes, int], None],
        getrandbits: Callable[[int], int],
        counters: Counter[str],
        *,
        mtu: int = 1500,
        writable: bool = False,
    ) -> None:
        self._store = store
        self._send = send
        self._getrandbits = getrandbits
        self._counters = counters
        self._mtu = mtu
        self._writable = writable
        self._transfers: dict[int, _Transfer] = {}  # by the server's port, the oldest first

    def owns(self, port: int) -> bool:
        """Datagrams for `port` are the server's."""
        return port == tftp.SERVER_PORT or port in self._transfers

    def receive(self, guest: Endpoint, port: int, octets: bytes, now: int) -> None:
        """A datagram for a port that the server owns; raises `WireError`."""
        packet = tftp.parse(octets)
        transfer = self._transfers.get(port)
        if transfer is None:
            self._receive_request(guest, packet, now)
        elif transfer.guest != guest:
            self._counters["tftp-other-transfer"] += 1
            if not isinstance(packet, tftp.Error):
                self._tell(port, guest, tftp.Error(ErrorCode.UNKNOWN_TRANSFER_ID, "another's transfer"), now)
        else:
            self._receive_transfer(transfer, packet, now)

    def flows(self) -> list[Flow]:
        """The transfers: `sent` are octets that the guest wrote, `received` those it read."""
        return [
            Flow(
                protocol="udp",
                state="tftp",
                guest=each.guest,
                remote=None,
                sent=each.received,
                received=each.sent,
                opened=each.opened,
                used=each.used,
            )
            for each in self._transfers.values()
        ]

    def deadline(self) -> int | None:
        return min((transfer.due for transfer in self._transfers.values()), default=None)

    def expire(self, now: int) -> None:
        for transfer in list(self._transfers.values()):
            if transfer.due > now:
                continue
            transfer.tries += 1
            if transfer.state.done:
                self._end(transfer, "done")
            elif transfer.tries > _TRIES:
                self._end(transfer, "timed-out")
            else:
                self._counters["tftp-again"] += 1
                self._put(transfer, transfer.state.again(), now)

    def close(self) -> None:
        for transfer in list(self._transfers.values()):
            self._end(transfer, "cut-off")

    # Requests

    def _receive_request(self, guest: Endpoint, packet: tftp.Packet, now: int) -> None:
        if not isinstance(packet, tftp.Request):
            self._counters["tftp-not-a-request"] += 1
            return
        same = next((each for each in self._transfers.values() if each.guest == guest and each.request == packet), None)
        if same is not None and not same.begun:
            self._put(same, same.state.again(), now)
            return
        self._counters["tftp-requests"] += 1
        refusal = self._refusal(packet)
        if refusal is None:
            try:
                self._begin(guest, packet, now)
            except HostError as error:
                refusal = _error(error)
        if refusal is not None:
            self._counters["tftp-refused"] += 1
            self._tell(tftp.SERVER_PORT, guest, refusal, now)

    def _refusal(self, request: tftp.Request) -> tftp.Error | None:
        if request.mode not in ("octet", "netascii"):
            return tftp.Error(ErrorCode.ILLEGAL_OPERATION, "mode octet or netascii is needed")
        if request.opcode == Opcode.WRQ and not self._writable:
            return tftp.Error(ErrorCode.ACCESS_VIOLATION, "nothing may be written here")
        return None

    def _begin(self, guest: Endpoint, request: tftp.Request, now: int) -> None:
        file, terms, state = (self._read if request.opcode == Opcode.RRQ else self._write)(guest, request)
        self._make_room()
        port = choose_port(0, self._transfers.__contains__, self._getrandbits, errno.EADDRINUSE)
        transfer = _Transfer(guest, port, request, file, state, terms.interval, now, now)
        self._transfers[port] = transfer
        self._put(transfer, state.again(), now)

    def _read(self, guest: Endpoint, request: tftp.Request) -> tuple[FileReader | FileWriter, _Terms, Sender | Receiver]:
        file = self._store.open(request.filename)
        terms = self._terms(guest, request, file.size)
        source = NetasciiReader(file) if request.mode == "netascii" else file
        try:
            return file, terms, Sender(source, terms.block_size, terms.window, terms.opening)
        except HostError:
            file.close()
            raise

    def _write(self, guest: Endpoint, request: tftp.Request) -> tuple[FileReader | FileWriter, _Terms, Sender | Receiver]:
        terms = self._terms(guest, request, None)
        if int(terms.granted.get("tsize", 0)) > _LARGEST_FILE:
            raise HostError(errno.EFBIG, "take a file of a guest's")
        file = self._store.create(request.filename)
        return file, terms, Receiver(_Upload(file, request.mode), terms.block_size, terms.window, terms.opening)

    def _terms(self, guest: Endpoint, request: tftp.Request, size: int | None) -> _Terms:
        granted: dict[str, str] = {}
        largest_block = self._mtu - _HEADERS[guest.address.version]
        for name, text in request.options.items():
            if name == "blksize" and _in_range(text, _BLOCK_SIZES):
                granted[name] = str(min(int(text), largest_block))
            elif name == "windowsize" and _in_range(text, _WINDOWS):
                granted[name] = str(min(int(text), _LARGEST_WINDOW))
            elif name == "timeout" and _in_range(text, _TIMEOUTS):
                granted[name] = str(int(text))
            elif name == "tsize" and _in_range(text, _SIZES) and request.mode == "octet":
                granted[name] = str(int(text) if size is None else size)
        return _Terms(granted)

    def _make_room(self) -> None:
        if len(self._transfers) < _TRANSFERS:
            return
        ((crowd, _),) = Counter(transfer.guest.address for transfer in self._transfers.values()).most_common(1)
        self._end(next(each for each in self._transfers.values() if each.guest.address == crowd), "evicted")

    # Transfers

    def _receive_transfer(self, transfer: _Transfer, packet: tftp.Packet, now: int) -> None:
        state = transfer.state
        if isinstance(packet, tftp.Error):
            self._end(transfer, "ended-by-guest")
            return
        transfer.begun = True
        transfer.used = now
        try:
            if isinstance(state, Sender) and isinstance(packet, tftp.Acknowledgment):
                answer = state.receive(packet)
            elif isinstance(state, Receiver) and isinstance(packet, tftp.Data):
                transfer.received += len(packet.data)
                answer = state.receive(packet)
            else:
                self._counters["tftp-out-of-place"] += 1
                return
        except HostError as error:
            self._tell(transfer.port, transfer.guest, _error(error), now)
            self._end(transfer, "failed")
            return
        if isinstance(state, Sender) and state.done:
            self._end(transfer, "done")
        elif answer:
            transfer.tries = 0
            self._put(transfer, answer, now)

    def _put(self, transfer: _Transfer, packets: list[tftp.Packet], now: int) -> None:
        """Send, and say when to send again."""
        for packet in packets:
            if isinstance(packet, tftp.Data):
                transfer.sent += len(packet.data)
            self._tell(transfer.port, transfer.guest, packet, now)
        transfer.due = now + (transfer.interval or _INTERVAL << transfer.tries)

    def _end(self, transfer: _Transfer, how: str) -> None:
        self._counters[f"tftp-{how}"] += 1
        del self._transfers[transfer.port]
        transfer.file.close()

    def _tell(self, port: int, guest: Endpoint, packet: tftp.Packet, now: int) -> None:
        self._send(port, guest, packet.pack(), now)


def _in_range(text: str, allowed: range) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(allowed[-1])) and int(text) in allowed


def _error(error: HostError) -> tftp.Error:
    code, message = _REASONS.get(error.errno or 0, (ErrorCode.NOT_DEFINED, "the file cannot be had"))
    return tftp.Error(code, message)
