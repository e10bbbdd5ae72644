import pytest


@pytest.fixture(scope="session")
def libslirp_here(netemu_platform) -> None:
    netemu_platform.require("libslirp")
