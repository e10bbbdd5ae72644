"""UNIX sockets and programs as a host's streams: real ones, and nothing is sent from this machine."""

import errno
import os
import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from netemu.errors import HostError
from netemu.io.loop import RealLoop
from netemu.io.oshost import OsHost
from netemu.net.sockets import Listener, Stream, StreamSocket, blocking_connect


@pytest.fixture
def host() -> Iterator[OsHost]:
    loop = RealLoop()
    host = OsHost(loop)
    yield host
    host.close()
    loop.close()


def stream(host: OsHost, opened: StreamSocket) -> Stream:
    return blocking_connect(host.loop, opened)


def open_command(host: OsHost, command: str) -> Stream:
    with host.loop:
        opened = host.open_command(command)
    return stream(host, opened)


def test_a_program_reads_and_writes(host: OsHost) -> None:
    with open_command(host, "tr a-z A-Z") as program:
        program.send(b"word" * 50_000)
        program.shutdown()
        assert program.recv_all() == b"WORD" * 50_000


def test_a_program_that_ends_ends_its_stream(host: OsHost) -> None:
    with open_command(host, "echo it is over") as program:
        assert program.recv_all() == b"it is over\n"


def test_programs_that_stay_are_killed_with_their_children(host: OsHost) -> None:
    program = open_command(host, "trap '' HUP TERM; sleep 1000 & echo $! $$; wait")
    pids = [int(word) for word in program.recv().split()]
    host.close()
    for pid in pids:
        with suppress(ProcessLookupError):  # a killed process may be on its way out still
            fd = os.pidfd_open(pid)
            assert select.select([fd], [], [], 10)[0]
            os.close(fd)


def test_both_ends_of_a_path(host: OsHost, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    for _ in range(2):  # the second finds what the first left
        with host.loop:
            listener = Listener(host.loop, host.open_path_listener(path))
        with host.loop:
            opened = host.open_path_stream(path)
        with stream(host, opened) as near, listener.accept() as far:
            near.send(b"question" * 20_000)
            assert far.recv_exactly(160_000) == b"question" * 20_000
            far.send(b"answer")
            far.shutdown()
            assert near.recv_all() == b"answer"
        listener.close()
    assert stat_is_socket(path)


def stat_is_socket(path: str) -> bool:
    return Path(path).is_socket()


@pytest.mark.parametrize("there", ["file", "directory"])
def test_what_is_no_socket_is_not_taken_away(host: OsHost, tmp_path: Path, there: str) -> None:
    path = tmp_path / "thing"
    path.mkdir() if there == "directory" else path.write_bytes(b"precious")
    with pytest.raises(HostError) as caught:
        host.open_path_listener(str(path))
    assert caught.value.errno == errno.EEXIST
    assert path.exists()


def test_nobody_at_a_path(host: OsHost, tmp_path: Path) -> None:
    with host.loop:
        opened = host.open_path_stream(str(tmp_path / "none"))
    assert opened.error == errno.ENOENT
    path = tmp_path / "stale"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with host.loop:
        opened = host.open_path_stream(str(path))
    assert opened.error == errno.ECONNREFUSED


def test_no_descriptor_is_left(host: OsHost) -> None:
    before = len(os.listdir("/proc/self/fd"))
    open_command(host, "true").close()
    assert len(os.listdir("/proc/self/fd")) == before
