"""The pytest plugin: every hook that pytest calls, each a line or two over the module that does the work.

Loading it must stay cheap, for pytest loads it in every run that has it installed: nothing of a network is imported before a test
asks for one. State lives in stashes of the config and of the items, and in reports; nothing is a global.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from netemu import __version__
from netemu.errors import LocalError
from pytest_netemu import builtin, compare, evidence, markers, matrix, newhooks, options
from pytest_netemu.options import SETTINGS
from pytest_netemu.platform import PLATFORM, Platform
from pytest_netemu.registry import Registry

if TYPE_CHECKING:
    from netemu.guest.protocol import Guest
    from netemu.netdev.protocol import UserBackend

__all__: list[str] = []  # hooks are found by their names

pytest_plugins = ["pytest_netemu.fixtures"]


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(newhooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    markers.register(config)
    guests: Registry[Guest] = Registry("guest")
    backends: Registry[UserBackend] = Registry("backend")
    builtin.register_guests(guests)
    builtin.register_backends(backends)
    try:
        builtin.register_programs(guests, options.programs(config, "guests"))
        builtin.register_program_backends(backends, options.programs(config, "backends"))
        config.hook.pytest_netemu_register_guests(registry=guests)
        config.hook.pytest_netemu_register_backends(registry=backends)
    except LocalError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[matrix.GUESTS] = guests
    config.stash[matrix.BACKENDS] = backends
    config.stash[SETTINGS] = options.read_settings(config, guests.names, backends.names)
    config.stash[PLATFORM] = Platform(config)
    if config.getoption("netemu_out") is not None:
        from pytest_netemu.report.recorder import ConformanceRecorder

        config.pluginmanager.register(ConformanceRecorder(config, config.stash[SETTINGS].out), "netemu-conformance")


def pytest_report_header(config: pytest.Config) -> str:
    asked = config.stash[SETTINGS]
    return (
        f"netemu: {__version__}, {asked.clock} clock, seed {asked.seed}, guests {', '.join(asked.guests)}, "
        f"backends {', '.join(asked.backends)}, captures {asked.capture} to {asked.out}"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    try:
        markers.check(metafunc.definition)
        matrix.requirements(metafunc.definition)
        matrix.parametrize(metafunc)
    except pytest.UsageError as error:  # as an error of this file it crosses from xdist's workers, and the others are seen too
        raise pytest.Collector.CollectError(str(error)) from None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        markers.check(item)
        matrix.requirements(item)
        matrix.mark_deviations(item)
    matrix.select(config, items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with evidence.gathering(item):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    __tracebackhide__ = True
    matrix.check_cell(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    yield
    item.stash[evidence.EVIDENCE].close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    evidence.attach(item, call, report)
    return report


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    return compare.explain(op, left, right)
