"""A User-mode Linux process in a virtual loop: its clock, its devices, its last words.

The process lives in a directory of its own and finds there, under fixed names, what it is told to connect to: `time`, the socket
of `netemu.guest.timetravel`, a socket for each device (`netemu.guest.vhostcard`), and `initramfs`. It stands still whenever it has
asked us something, so one thread serves it without a race: the loop gives it a turn, which ends when it waits for time to pass.

For runs to be equal the kernel must see the same every time: names are relative (the command line feeds its random numbers), the
machine's random numbers are replaced by a seed (UML_SEED, which `netemu peers build uml` puts in), and its addresses are not
randomised (setarch(8)).

A kernel in a loop that never sleeps never ends its turn, since computing takes no virtual time. After `watchdog` seconds of real
time without a word from it, it is killed, and the call that waited ends with a `PeerError` that shows the end of its console.
"""

from __future__ import annotations

import select
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from netemu.errors import LocalError, PeerError
from netemu.guest.templates import memory_directory
from netemu.guest.timetravel import MESSAGE_SIZE, KernelTime, TimeMessage
from netemu.guest.vhostcard import VhostCard
from netemu.io.passing import PassingSocket
from netemu.net.loop import VirtualLoop
from netemu.peers.process import ProcessGroup
from netemu.virtio.device import Device

__all__ = ["VirtualKernel"]

_TIME: Final = "time"
_INITRAMFS: Final = "initramfs"
_CONSOLE_KEPT: Final = 65_536  # octets of the console's end
_CONSOLE_TOLD: Final = 2_000  # characters of it in an error
_READ: Final = 65_536

_FIXED_PARAMETERS: Final = (
    f"initrd={_INITRAMFS}",
    "rdinit=/init",
    "con=null",
    "con0=null,fd:1",
    "quiet",
    "loglevel=2",  # emergencies and alerts: what explains a death
    "noreboot",
    "panic=-1",  # end at once
    "oops=panic",
    "uml_dir=uml",
    "umid=guest",
    f"time-travel=ext:1:{_TIME}",
)


class VirtualKernel:
    """Starts `program` with `devices` (their virtio id and themselves, by the name of their socket); its first turn boots it.

    `memory` is in MiB, `seed` feeds its random numbers. `on_end` is called once when it has ended, by itself or not.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        name: str,
        program: Path,
        *,
        devices: Mapping[str, tuple[int, Device]],
        initramfs: BinaryIO,
        memory: int,
        seed: int,
        parameters: Sequence[str],
        on_end: Callable[[], None],
    ) -> None:
        setarch = shutil.which("setarch")
        if setarch is None:
            raise LocalError("setarch is not in PATH: install the Debian package util-linux")
        self.name = name
        self.ended = False
        self.watchdog = 60.0
        self._loop = loop
        self._on_end = on_end
        self._last_words = bytearray()
        self._directory = Path(tempfile.mkdtemp(prefix="netemu-uml-"))
        (self._directory / _INITRAMFS).symlink_to(f"/proc/self/fd/{initramfs.fileno()}")
        self._time = KernelTime(loop, self._take_turn)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._listener.bind(str(self._directory / _TIME))
        self._listener.listen(1)
        self._clock = self._listener  # until the kernel has connected
        self._booted = False
        self._cards = [self._card(socket_name, device) for socket_name, (_, device) in devices.items()]
        self._console, console = socket.socketpair()
        self._console.setblocking(False)
        with console:
            self._process = ProcessGroup(
                [
                    setarch,
                    "-R",
                    program,
                    f"mem={memory}M",
                    *_FIXED_PARAMETERS,
                    *(f"virtio_uml.device={socket_name}:{number}" for socket_name, (number, _) in devices.items()),
                    *parameters,
                ],
                stdin=console.fileno(),
                output=console.fileno(),
                pass_fds=(initramfs.fileno(),),
                environment={"TMPDIR": memory_directory(), "HOME": "/", "PATH": "/bin", "UML_SEED": str(seed)},
                directory=self._directory,
            )
        self._time.first_turn()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def last_words(self) -> str:
        """The end of what the kernel itself said."""
        return self._last_words.decode(errors="replace").strip()[-_CONSOLE_TOLD:]

    def close(self) -> None:
        """End the process and all its helpers. A second call does nothing."""
        self._end()
        if self._directory.exists():
            self._process.close(grace=0)
            for card in self._cards:
                card.close()
            for end in (self._listener, self._clock, self._console):
                end.close()
            shutil.rmtree(self._directory, ignore_errors=True)

    def _card(self, socket_name: str, device: Device) -> VhostCard:
        """An interrupt has to wait until the kernel waits: a callback of the loop finds it so."""

        def wants() -> None:
            self._loop.call_soon(partial(self._interrupt, card))

        card = VhostCard(self._directory / socket_name, device, wants=wants, kicked=self._shrink)
        return card

    def _take_turn(self) -> None:
        with self._guarded():
            if self._booted:
                for message in self._time.begin():
                    self._tell(message)
            while not self._time.waiting and not self.ended:
                self._pass()
            self._booted = True
            self._time.end()

    def _pass(self) -> None:
        """Serve one that has something to say: cards before the clock, since they were told before it waits; the console last."""
        served: dict[int, Callable[[], None]] = {card.fileno(): partial(self._serve, card) for card in self._cards}
        served[self._clock.fileno()] = self._tick
        served[self._process.pidfd] = self._end
        served[self._console.fileno()] = self._listen
        ready = self._poll(served)
        for fd, serve in served.items():
            if fd in ready:
                serve()
                break

    def _serve(self, card: VhostCard) -> None:
        if not card.serve():
            self._cards.remove(card)
            card.close()

    def _interrupt(self, card: VhostCard) -> None:
        if self.ended:
            return
        with self._guarded():
            card.interrupt(self._until_readable)
            self._time.end()

    def _until_readable(self, channel: PassingSocket) -> None:
        """Serve the kernel's clock until it has written to `channel`, or ended."""
        while not self.ended and channel.fileno() not in self._poll((channel.fileno(), self._clock.fileno())):
            self._tick()

    def _shrink(self) -> None:
        message = self._time.shrink()
        if message is not None:
            self._tell(message)

    def _tell(self, message: TimeMessage) -> None:
        """Say it, and wait until the kernel has taken notice."""
        with suppress(ConnectionError):  # it has ended, and the next look shows it
            self._clock.sendall(message.pack())
        while not self._time.acknowledged and not self.ended:
            self._poll((self._clock.fileno(),))
            self._tick()

    def _tick(self) -> None:
        """One message of the kernel's clock."""
        if self._clock is self._listener:
            self._clock = self._listener.accept()[0]
            return
        try:
            octets = self._clock.recv(MESSAGE_SIZE, socket.MSG_WAITALL)
        except ConnectionError:
            octets = b""
        if len(octets) < MESSAGE_SIZE:
            self._end()
            return
        reply = self._time.receive(TimeMessage.parse(octets))
        if reply is not None:
            with suppress(ConnectionError):
                self._clock.sendall(reply.pack())

    def _listen(self) -> None:
        with suppress(BlockingIOError, ConnectionError):
            while octets := self._console.recv(_READ):
                self._last_words += octets
                del self._last_words[:-_CONSOLE_KEPT]

    def _poll(self, fds: Iterable[int]) -> set[int]:
        poll = select.poll()
        for fd in fds:
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(self.watchdog * 1000)}
        if not ready:
            raise PeerError(f"said nothing for {self.watchdog:g} s of real time, in which its own stood still: does it spin?")
        return ready

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """A kernel that breaks its word, or hangs, is ended, and whoever waits hears why."""
        try:
            yield
        except PeerError as error:
            self._end()
            self._process.close(grace=0)
            tail = f"; its console ended with:\n{self.last_words}\n" if self.last_words else ""
            raise PeerError(f"guest {self.name}: {error}{tail}") from None

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._time.cancel()
        self._listen()
        self._loop.call_soon(self._on_end)
