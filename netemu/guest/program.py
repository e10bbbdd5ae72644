"""A program that is a guest: any network stack behind one descriptor, in the network's clock, virtual or real.

The program is started with a descriptor of a stream socket and lives in turns (`netemu.guest.channel` has the messages). In each
turn it is told the time, the frames that came and what is asked of its sockets; it does all that, runs its timers, says what it
has to say (frames too), and ends its turn with the time at which it wants the next one. Between its turns it stands still, so it
needs no clock, and a run repeats if the program draws no random numbers of its own. A turn takes no virtual time.

A program that ends, says what is no message, or does not end its turn within `watchdog` seconds of real time is the end of the
guest: its sockets fail, and whoever waits for the network gets a `PeerError` with what the program wrote.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Interface
from typing import Final, Never

from netemu.errors import LocalError, PeerError
from netemu.guest.channel import Decoder, Kind, Message, encode
from netemu.guest.protocol import CommandResult, Lease, require
from netemu.guest.remote import RemoteSockets
from netemu.guest.socketguest import SocketGuest
from netemu.net.loop import Loop, Timer
from netemu.net.port import Frame, Port
from netemu.net.sockets import DEFAULT_TIMEOUT, Address
from netemu.peers.process import ProcessGroup
from netemu.wire.address import IPAddress, MacAddress
from netemu.wire.vnet_hdr import VnetHeader

__all__ = ["CAPABILITIES", "ProgramGuest"]

CAPABILITIES: Final = frozenset({"ping", "tcp.connect", "tcp.listen", "tcp.half-close", "udp", "virtual-clock"})
"""What the channel has messages for; a program that lacks some of it is registered with fewer."""

_NEVER: Final = (1 << 64) - 1
_READ: Final = 1 << 18
_SHOWN: Final = 300  # characters of what it said last
_PLACES: Final = "{channel}, {mac} and {name}"


class ProgramGuest(SocketGuest):
    """Runs `command`, in which `{channel}` stands for the number of its descriptor, `{mac}` and `{name}` for what they say.

    `capabilities` are those of `CAPABILITIES` that it has. A command without `{channel}`, or that cannot be started, is a
    `LocalError`.
    """

    kind = "program"

    def __init__(
        self,
        loop: Loop,
        name: str,
        mac: MacAddress,
        *,
        command: str | Sequence[str],
        capabilities: frozenset[str] = CAPABILITIES,
        watchdog: float = 10.0,
        getrandbits: Callable[[int], int] | None = None,  # noqa: ARG002 - every kind of guest is made alike
    ) -> None:
        super().__init__(loop, name, mac, Port(loop, name))
        self.port.receiver = self._receive_frame
        self.capabilities = capabilities
        self._pending: list[Message] = []
        self._decoder = Decoder()
        self._timer: Timer | None = None
        self._scheduled = self._closed = False
        self._ended: str | None = None
        words = shlex.split(command) if isinstance(command, str) else [*command]
        with ExitStack() as made:
            self._channel, theirs = map(made.enter_context, socket.socketpair())
            self._channel.settimeout(watchdog)
            self._output = made.enter_context(tempfile.TemporaryFile())
            filled = _fill(words, channel=str(theirs.fileno()), mac=str(mac), name=name)
            nothing = made.enter_context(open(os.devnull, "rb"))
            self._process = ProcessGroup(filled, stdin=nothing.fileno(), output=self._output.fileno(), pass_fds=[theirs.fileno()])
            theirs.close()
            made.callback(self._process.close)
            self._made = made.pop_all()
        with loop:
            self._remote = RemoteSockets(loop, self._open_pipe)
            self._schedule()

    # The pipe of `RemoteSockets`

    def _open_pipe(self, on_message: Callable[[Message], None], on_end: Callable[[str], None]) -> ProgramGuest:
        self._on_message, self._on_end = on_message, on_end
        return self

    def send(self, message: Message) -> None:
        """Say `message` in the program's next turn, which is soon."""
        if self._ended is None:
            self._pending.append(message)
            self._schedule()

    def allow(self, octets: int) -> None:
        """Nobody's matter: a turn takes all that there is."""

    # Turns

    def _receive_frame(self, frame: Frame, header: VnetHeader | None) -> bool:
        assert header is None, "the port takes no offloads"
        self.send(Message(Kind.FRAME, 0, payload=bytes(frame)))
        return True

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._ended is not None:
            return
        now = self._loop.now()
        asked, self._pending = self._pending, []
        try:
            self._channel.sendall(b"".join(map(encode, (Message(Kind.TIME, 0, (now,)), *asked, Message(Kind.TURN, 0)))))
            answers = self._answers()
            self._wait(answers.pop().fields[0], now)
        except PeerError as error:
            self._die(f"said {error}")
        except TimeoutError:
            self._die(f"did not end its turn within {self._channel.gettimeout():g} s")
        except OSError:
            self._die("closed its channel")
        else:
            for answer in answers:
                self._take(answer)

    def _answers(self) -> list[Message]:
        """What the program says in its turn; WAIT is the last."""
        found: list[Message] = []
        while not found or found[-1].kind != Kind.WAIT:
            octets = self._channel.recv(_READ)
            if not octets:
                raise ConnectionResetError
            found += self._decoder.feed(octets)
        return found

    def _take(self, answer: Message) -> None:
        if answer.kind == Kind.FRAME:
            self.port.send(answer.payload)
        else:
            self._on_message(answer)

    def _wait(self, until: int, now: int) -> None:
        if until <= now:
            raise PeerError(f"that it waits until {until}, and it is {now} already")
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if until == _NEVER else self._loop.call_at(until, self._turn)

    def _die(self, what: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._ended = what
        self._on_end(what)
        status = self._process.close()
        self._output.seek(0)
        words = self._output.read().decode(errors="replace").strip()[-_SHOWN:]
        raise PeerError(f"the program of guest {self.name} {what}; it ended with status {status} and wrote {words!r}")

    # Verbs

    def configure(self, address: Address, prefix_length: int, router: Address | None = None) -> None:
        """Set the address."""
        try:
            interface = IPv4Interface((str(address), prefix_length))
            gateway = None if router is None else IPv4Address(router)
        except ValueError as error:
            raise LocalError(f"configure {self.name}: {error}; give an IPv4 address and a prefix length of 0 to 32") from None
        with self._loop:
            self._sockets().configure(interface, gateway)
        self._address = interface.ip

    def _sockets(self) -> RemoteSockets:
        if not self._remote.wait_ready(DEFAULT_TIMEOUT) and self._ended is None:
            raise PeerError(f"the program of guest {self.name} has not greeted: its first message is OPENED with handle 0")
        return self._remote

    def dhcp4(self, *, timeout: float = 60.0) -> Lease:  # noqa: ARG002 - the protocol's
        """Not there: a `LocalError` that says so."""
        return self._unable("dhcp4")

    def resolve(self, name: str, *, server: Address | None = None, timeout: float = DEFAULT_TIMEOUT) -> Sequence[IPAddress]:  # noqa: ARG002 - the protocol's
        """Not there: a `LocalError` that says so."""
        return self._unable("resolve")

    def run(self, command: str, *, timeout: float = DEFAULT_TIMEOUT) -> CommandResult:  # noqa: ARG002 - the protocol's
        """Not there: a `LocalError` that says so."""
        return self._unable("run")

    def _unable(self, capability: str) -> Never:
        require(self, capability)
        raise LocalError(f"guest {self.name} (program) claims {capability!r}, and the channel has no message for it")

    def close(self) -> None:
        """End the program and every process it started."""
        if self._closed:
            return
        self._closed = True
        with self._loop:
            if self._timer is not None:
                self._timer.cancel()
            self._remote.close()
            self._ended = self._ended or "was closed"
            self.port.disconnect()
        self._made.close()


def _fill(words: Sequence[str], **places: str) -> list[str]:
    """The command with its places filled in."""
    try:
        filled = [word.format(**places) for word in words]
    except (KeyError, IndexError, ValueError) as error:
        raise LocalError(f"command {shlex.join(words)}: {error} is no place in it; there are {_PLACES}") from None
    if not any("{channel}" in word for word in words):
        raise LocalError(f"command {shlex.join(words)}: it has no {{channel}}, the number of the descriptor that it is to use")
    if shutil.which(filled[0]) is None:
        raise LocalError(f"command {shlex.join(words)}: there is no program {filled[0]}; build it, or give its path")
    return filled
