"""QMP against a peer that lies, and in the order in which it is spoken."""

import json
import socket

import pytest

from netemu.errors import HostError, NetemuTimeoutError, PeerError
from netemu.peers.qmp import Qmp

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'
OK = b'{"return": {}}\r\n'


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_commands_are_written_before_anybody_reads_them(ends):
    ours, theirs = ends
    qmp = Qmp(ours)
    qmp.say("migrate-set-parameters", announce_rounds=0)
    said = [json.loads(line) for line in theirs.recv(65536).splitlines()]
    assert said == [
        {"execute": "qmp_capabilities", "arguments": {}},
        {"execute": "migrate-set-parameters", "arguments": {"announce-rounds": 0}},
    ]
    theirs.sendall(GREETING + OK + b'{"event": "RESUME"}\r\n' + OK)
    qmp.settle(5)


def test_a_result_comes_back(ends):
    ours, theirs = ends
    theirs.sendall(GREETING + OK + b'{"return": {"status": "running"}}\r\n')
    assert Qmp(ours).command("query-status", 5) == {"status": "running"}


@pytest.mark.parametrize(
    ("octets", "message"),
    [
        (OK + b'{"error": {"class": "GenericError", "desc": "No such device"}}\n', "QEMU refused device_add: No such device"),
        (OK + b"nonsense\n", "QEMU wrote b'nonsense', which is no JSON object"),
        (OK + b"[1]\n", "which is no JSON object"),
        (OK + b'{"return": "\xff"}\n', "which is no JSON object"),
        (OK + b"x" * 2_000_000, "QEMU wrote a line of more than 1048576 octets"),
    ],
    ids=["refusal", "no JSON", "no object", "no UTF-8", "endless"],
)
def test_what_is_no_answer_is_a_peer_error(ends, octets, message):
    ours, theirs = ends
    theirs.setblocking(False)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
    theirs.send(GREETING + octets)
    with pytest.raises(PeerError, match=message):
        Qmp(ours).command("device_add", 5)


def test_silence_and_an_end(ends):
    ours, theirs = ends
    qmp = Qmp(ours)
    with pytest.raises(NetemuTimeoutError, match=r"QEMU did not answer qmp_capabilities within 0\.05 s"):
        qmp.settle(0.05)
    theirs.sendall(GREETING + OK[:5])
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(HostError, match="QEMU ended, asked to qmp_capabilities"):
        qmp.settle(5)
    theirs.close()
    with pytest.raises(HostError, match="tell QEMU to quit"):
        qmp.say("quit")
