"""Both loops, a private namespace, and the proof that nothing is left behind."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from netemu.io.loop import RealLoop
from netemu.io.namespace import Namespace
from netemu.net.loop import VirtualLoop


def open_descriptors():
    return {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if Path(f"/proc/self/fd/{fd}").exists()}


@pytest.fixture(autouse=True)
def nothing_left_behind():
    descriptors, threads = open_descriptors(), set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == threads
    left = dict(open_descriptors().items() - descriptors.items())  # fewer is no leak: an earlier test's are collected late
    assert not left


@pytest.fixture(params=["virtual", "real"])
def loop(request, nothing_left_behind):
    """The test runs once with each loop."""
    if request.param == "virtual":
        yield VirtualLoop()
    else:
        loop = RealLoop()
        yield loop
        loop.close()


@pytest.fixture
def real_loop(nothing_left_behind):
    loop = RealLoop()
    yield loop
    loop.close()


@pytest.fixture
def namespace(netemu_platform, nothing_left_behind):
    """A private namespace; where none can be made the test is skipped, but fails in CI, which must be able to."""
    netemu_platform.require("network-namespaces")
    with Namespace("test") as namespace:
        yield namespace
