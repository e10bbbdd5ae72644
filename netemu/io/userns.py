"""A process that lives in a network namespace, for a user without privileges.

A user namespace gives its owner every capability inside it, and a process with threads cannot enter one (unshare(2), setns(2):
EINVAL). So a process of its own is started in a new one, with a network and a mount namespace of its own, by unshare(1). It does
for us what has to be done inside: it gets functions by their names (pickle), and gives back their results. Sockets and
descriptors come with them (unix(7), SCM_RIGHTS), and are used here from then on: they stay where they were made. Programs are
started from here, by nsenter(1), so they are children of ours. Our user is root inside, and nobody else is there.

The process ends when its socket does, at the latest with us.

Without unshare(1) and nsenter(1), or where the kernel's settings forbid it, it is a `HostError`.
"""

from __future__ import annotations

import errno
import io
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Concatenate, Final, NamedTuple, ParamSpec, TypeVar, cast

from netemu.errors import HostError, LocalError
from netemu.io.inside import cover_resolv_conf

__all__ = ["ProcessInside", "serve"]

_LARGEST: Final = 1 << 16  # octets of a request or an answer
_MAX_FILES: Final = 8
_PATIENCE: Final = 20  # seconds of real time to begin
_UNSHARE: Final = ("unshare", "--user", "--map-root-user", "--net", "--mount", "--")
_NSENTER: Final = ("nsenter", "--preserve-credentials", "--user", "--net", "--mount", "--target")
_DIE_WITH_US: Final = ("setpriv", "--pdeathsig", "TERM", "--")

_P = ParamSpec("_P")
_R = TypeVar("_R")


class _Descriptor(NamedTuple):
    """A descriptor in an answer."""

    fd: int


class _Pickler(pickle.Pickler):
    """Puts sockets and descriptors aside, into `files`."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.files: list[int] = []

    def persistent_id(self, obj: object) -> tuple[str, int] | None:
        if isinstance(obj, socket.socket):
            self.files.append(obj.detach())
            return "socket", len(self.files) - 1
        if isinstance(obj, _Descriptor):
            self.files.append(obj.fd)
            return "descriptor", len(self.files) - 1
        return None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, files: Sequence[int]) -> None:
        super().__init__(file)
        self._files = files

    def persistent_load(self, pid: tuple[str, int]) -> object:
        kind, index = pid
        return socket.socket(fileno=self._files[index]) if kind == "socket" else self._files[index]


class ProcessInside:
    """Starts the process; what forbids it is a `HostError`. `fd` is the network namespace's descriptor."""

    def __init__(self, name: str) -> None:
        self._one_at_a_time = threading.Lock()
        with ExitStack() as made:
            self._control, theirs = map(made.enter_context, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            command = [*_UNSHARE, sys.executable, "-c", f"from {__name__} import serve; serve({theirs.fileno()})"]
            operation = f"start a process for {name!r} in a user namespace"
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=[theirs.fileno()],
                    text=True,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                )
            except OSError as error:
                raise HostError(error.errno or errno.EIO, f"{operation} (unshare, of the Debian package util-linux)") from None
            made.callback(self._end)
            theirs.close()
            self._control.settimeout(_PATIENCE)
            if not self._control.recv(1):
                assert self._process.stdout is not None
                words = self._process.stdout.read()
                raise HostError(errno.EPERM, f"{operation}, where unshare said {words.strip()[-200:]!r}")
            self._control.settimeout(None)
            self.prefix = (*_NSENTER, str(self._process.pid), "--", *_DIE_WITH_US)
            self.fd = os.open(f"/proc/{self._process.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            made.callback(os.close, self.fd)
            self._made = made.pop_all()

    def call(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run `function` inside and give what it returns or raises; all of that passes pickle, sockets too."""
        try:
            request = pickle.dumps((function, args, kwargs))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise LocalError(f"{function} is to run in another process, in a user namespace, and cannot be sent: {error}") from None
        octets = b""
        with self._one_at_a_time, suppress(ConnectionError):
            self._control.send(request)
            octets, files, _, _ = socket.recv_fds(self._control, _LARGEST, _MAX_FILES)
        if not octets:
            raise HostError(errno.ESRCH, "reach the process in the user namespace, which has ended")
        result, failure = _Unpickler(io.BytesIO(octets), files).load()
        if failure is not None:
            raise failure
        return cast("_R", result)

    def open(self, function: Callable[_P, int], *args: _P.args, **kwargs: _P.kwargs) -> int:
        """The descriptor that `function` opens inside; here it has another number."""
        return cast("int", self.call(_open, function, *args, **kwargs))

    def start(
        self,
        make: Callable[Concatenate[Sequence[str | Path], _P], _R],
        command: Sequence[str | Path],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _R:
        """What `make` starts, which goes inside by itself."""
        return make([*self.prefix, *command], *args, **kwargs)

    def groups(self, low: int, high: int) -> tuple[int, int]:
        """As what the groups `low` to `high` are known inside: there is only ours, as 0."""
        return (0, 0) if low <= os.getegid() <= high else (1, 0)

    def close(self) -> None:
        """End the process."""
        self._made.close()

    def _end(self) -> None:
        self._control.close()
        self._process.communicate()


def _open(function: Callable[_P, int], /, *args: _P.args, **kwargs: _P.kwargs) -> _Descriptor:
    return _Descriptor(function(*args, **kwargs))


def serve(fd: int) -> None:
    """In that process: do what is asked through socket `fd`, one after the other, until nobody can ask any more."""
    control = socket.socket(fileno=fd)
    cover_resolv_conf()
    control.send(b"!")
    while request := control.recv(_LARGEST):
        function, args, kwargs = pickle.loads(request)
        answer: tuple[object, Exception | None]
        try:
            answer = function(*args, **kwargs), None
        except Exception as failure:  # noqa: BLE001 - it is raised where it was asked for
            answer = None, failure
        octets = io.BytesIO()
        pickler = _Pickler(octets)
        pickler.dump(answer)
        socket.send_fds(control, [octets.getvalue()], pickler.files)
        for fd in pickler.files:
            os.close(fd)
