"""The console shell, driven against the very loop that a guest's /init ends in, run here by the same busybox."""

import re
import socket
import subprocess

import pytest

from netemu.errors import HostError, LocalError, NetemuTimeoutError
from netemu.guest import busybox
from netemu.guest.initramfs import READY
from netemu.guest.shell import ConsoleShell, quote

LOOP = f'echo "booted in no time"; echo {READY}; while IFS= read -r line; do eval "$line"; done'


@pytest.fixture
def far_end(netemu_platform):
    netemu_platform.require_part("program", "busybox", lambda: busybox.probe(static=True))
    ours, theirs = socket.socketpair()
    with theirs:
        program = subprocess.Popen([busybox.find_busybox(), "sh", "-c", LOOP], stdin=theirs, stdout=theirs, stderr=theirs)
    with ours:
        yield ours, program
        program.kill()
        program.wait()


@pytest.fixture
def shell(far_end):
    shell = ConsoleShell(far_end[0], "g")
    shell.wait_ready(10)
    return shell


def test_status_and_output_are_exact(shell):
    assert shell.run("echo one; echo two >&2; exit 3", 10) == (result := shell.run("echo one; echo two >&2; exit 3", 10))
    assert (result.status, result.output) == (3, "one\ntwo\n")
    assert shell.run("printf 'no newline'", 10).output == "no newline"
    assert shell.run("", 10) == type(result)(0, "")


def test_commands_do_not_touch_each_other(shell):
    shell.run("cd /; x=1; exit", 10)
    assert shell.run('echo "[$x]"', 10).output == "[]\n"
    assert shell.run("cat", 10).output == ""  # standard input is empty, not the console


def test_a_syntax_error_is_a_status(shell):
    result = shell.run("if then", 10)
    assert result.status == 2
    assert "syntax error" in result.output
    assert shell.run("echo on", 10).output == "on\n"


@pytest.mark.parametrize("text", ["it's", 'a "b" \\ $HOME `id`', "two\nlines\tand tab", "Zürich ☃", "x" * 5000, "'" * 2000])
def test_any_text_arrives_as_it_is(shell, text):
    assert shell.run(f"cat <<'EOF'\n{text}\nEOF\n", 20).output == f"{text}\n"


def test_quoting_is_one_line_of_plain_characters():
    assert re.fullmatch(r"\$'[ -~]*'", quote(bytes(range(1, 256))))


def test_a_zero_octet_is_refused(shell):
    with pytest.raises(LocalError, match="zero octet"):
        shell.run("echo a\0b", 10)


def test_output_that_looks_like_a_marker_is_output(shell):
    assert shell.run("echo netemu-0123456789ab-1:0", 10).output == "netemu-0123456789ab-1:0\n"


def test_a_command_that_hangs_ends_in_time_and_the_next_one_waits_for_it(shell, tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    subprocess.run(["mkfifo", tmp_path / "fifo"], check=True)
    with pytest.raises(NetemuTimeoutError, match=r"(?s)guest g did not finish running 'echo begun.*within 0.2 s.*begun"):
        shell.run(f"echo begun; read -r word <{tmp_path}/fifo; echo $word", 0.2)
    with pytest.raises(NetemuTimeoutError, match="running 'echo begun"):
        shell.run("echo after", 0.1)
    (tmp_path / "fifo").write_text("go\n")
    assert shell.run("echo after", 10).output == "after\n"


def test_a_guest_that_dies_ends_the_call_with_its_last_words(far_end, shell):
    with pytest.raises(HostError, match=r"(?s)guest g ended, running.*farewell"):
        shell.run("echo farewell; kill -9 $$", 10)
    with pytest.raises(HostError, match="guest g ended"):
        shell.run("echo on", 10)


def test_a_guest_that_never_boots(far_end):
    far_end[1].kill()
    silent, other = socket.socketpair()
    with silent, other, pytest.raises(NetemuTimeoutError, match=r"booting within 0\.1 s"):
        ConsoleShell(silent, "g").wait_ready(0.1)
