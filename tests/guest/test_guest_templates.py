"""The directory of templates: shared by processes, whole or not there, and gone with the last who uses it."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from netemu.guest.templates import Templates

GONE = 20.0  # seconds; a limit for a crowded machine


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "netemu-templates-test"


def wait_until_gone(directory):
    deadline = time.monotonic() + GONE
    while list(directory.parent.glob(f"{directory.name}*")):
        assert time.monotonic() < deadline, list(directory.parent.iterdir())
        time.sleep(0.01)


def test_it_is_made_once_and_goes_with_its_users(directory):
    made = []

    def make(place):
        made.append(place)
        (place / "ram").write_text("memory")

    with closing(Templates(directory)) as first:
        with closing(Templates(directory)) as second:
            assert first.get("e1000", make) == second.get("e1000", make)
            assert len(made) == 1
        assert (first.get("e1000", make) / "ram").read_text() == "memory"
        first.discard("e1000")
        assert (first.get("e1000", make) / "ram").read_text() == "memory"
        assert len(made) == 2
        assert directory.stat().st_mode & 0o777 == 0o700
    wait_until_gone(directory)


def test_a_failure_leaves_none(directory):
    def fail(place):
        (place / "ram").write_text("half")
        raise ValueError("it did not boot")

    with closing(Templates(directory)) as templates:
        with pytest.raises(ValueError, match="it did not boot"):
            templates.get("e1000", fail)
        assert list(templates.get("e1000", lambda _place: None).iterdir()) == []
    wait_until_gone(directory)


def test_who_wants_the_same_waits_for_it(directory):
    made, found = [], []

    def make(place):
        made.append(place)
        time.sleep(0.05)
        (place / "ram").touch()

    def want():
        with closing(Templates(directory)) as templates:
            found.append((templates.get("e1000", make) / "ram").exists())

    with closing(Templates(directory)):
        threads = [threading.Thread(target=want) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (len(made), found) == (1, [True] * 4)
    wait_until_gone(directory)


def test_coming_and_going_never_finds_half_of_it(directory):
    """Each is gone before the next comes, so the janitor of one meets the other."""
    for _ in range(20):
        with closing(Templates(directory)) as templates:
            assert list(templates.get("e1000", lambda _place: None).iterdir()) == []
    wait_until_gone(directory)


PROGRAM = """
import sys, time
from pathlib import Path
from netemu.guest.templates import Templates
templates = Templates(Path(sys.argv[1]))
if sys.argv[2] == "made":
    templates.get("e1000", lambda place: None)
    print("made", flush=True)
    time.sleep(100)
else:
    templates.get("e1000", lambda place: (print("making", flush=True), time.sleep(100)))
"""


@pytest.mark.parametrize("state", ["made", "making"])
def test_a_killed_user_leaves_nothing(directory, state):
    with subprocess.Popen([sys.executable, "-c", PROGRAM, directory, state], stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout.readline() == f"{state}\n"
        assert (directory / ("e1000" if state == "made" else "e1000.part")).is_dir()
        os.kill(user.pid, signal.SIGKILL)
    wait_until_gone(directory)
