from __future__ import annotations

import os
import threading
from contextlib import closing

import pytest

from netemu.guest.templates import PREFIX, Templates
from pytest_netemu import leaks


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(leaks, "_GRACE", 0.2)


def test_nothing_leaks_by_itself():
    assert leaks.leaks_since(leaks.take_picture()) == []


def test_what_was_there_before_is_no_leak():
    fd = os.memfd_create("before")
    assert leaks.leaks_since(leaks.take_picture()) == []
    os.close(fd)


def test_a_number_that_is_used_again_for_something_else_is_one():
    fd = os.memfd_create("before")
    before = leaks.take_picture()
    os.close(fd)
    again = os.memfd_create("after")
    assert again == fd
    assert leaks.leaks_since(before) == [f"descriptor {again} (/memfd:after (deleted))"]
    os.close(again)


def test_a_thread_on_its_way_out_is_waited_for(monkeypatch):
    monkeypatch.setattr(leaks, "_GRACE", 30)
    before = leaks.take_picture()
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    threading.Timer(0.1, end.set).start()
    assert leaks.leaks_since(before) == []
    thread.join()


def test_garbage_is_collected_first():
    before = leaks.take_picture()
    fd = os.memfd_create("cyclic")
    holder = [os.fdopen(fd, closefd=False)]
    holder.append(holder)

    class Owner:
        def __del__(self, close=os.close):
            close(fd)

    holder.append(Owner())
    del holder
    assert leaks.leaks_since(before) == []


def test_what_the_process_keeps_is_no_leak(tmp_path):
    before = leaks.take_picture()
    with closing(Templates(tmp_path / f"{PREFIX}test")):
        assert leaks.leaks_since(before) == []
