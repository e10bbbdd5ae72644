import os

import pytest

from netemu.peers import libslirp


@pytest.fixture(scope="session")
def libslirp_here() -> None:
    reason = libslirp.probe()
    if reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have it: {reason}")
        pytest.skip(reason)
