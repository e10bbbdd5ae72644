"""The catalogue of requirements: it loads, it says what is wrong with it, and each tested one has a check."""

from collections import Counter
from pathlib import Path

import pytest

from netemu.errors import LocalError
from pytest_netemu.conformance import checks, checks_of, package_of
from pytest_netemu.requirements import Requirement, catalogue, parse_document, snapshot
from pytest_netemu.suites import WALLS, judges

SNAPSHOT = Path(__file__).with_name("coverage.snapshot.txt")
HEAD = '[document]\nid = "rfc0"\ntitle = "T"\nedition = "1969-04"\nurl = "https://example.org/rfc0"\n'


def entry(**changes: str | None) -> str:
    fields = {"id": "rfc0/1/01", "level": "MUST", "role": "server", "status": "tested", "quote": "It MUST."}
    fields |= changes
    return "\n[[requirement]]\n" + "".join(f'{key} = "{value}"\n' for key, value in fields.items() if value is not None)


def shipped() -> list[Requirement]:
    return list(catalogue().values())


def test_a_document_becomes_requirements():
    (found,) = parse_document(HEAD + entry(), "rfc0.toml")
    assert (found.id, found.section, found.level, found.side) == ("rfc0/1/01", "1", "MUST", "backend")
    assert found.document.edition == "1969-04"
    assert found.url == "https://example.org/rfc0#section-1"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id =", "is no TOML"),
        ('[document]\nid = "rfc0"\n', "exactly edition, id, title, url are needed"),
        (HEAD + entry() + entry(), "rfc0/1/01 is there twice"),
        (HEAD + entry(level="OUGHT"), "level 'OUGHT'; one of MUST, SHOULD, MAY, descriptive is needed"),
        (HEAD + entry(status="done"), "status 'done'"),
        (HEAD + entry(role="bystander"), "role 'bystander'"),
        (HEAD + entry(quote=None), "lacks quote"),
        (HEAD + entry(colour="blue"), "has the key colour"),
        (HEAD + entry(id="rfc1/1/01"), "an id such as rfc0/4.3.1/07"),
        (HEAD + entry(id="rfc0/1"), "an id such as rfc0/4.3.1/07"),
        (HEAD + entry(status="todo"), "has status 'todo' without a reason"),
    ],
)
def test_a_mistake_is_one_sentence(text: str, sentence: str):
    with pytest.raises(LocalError) as caught:
        parse_document(text, "rfc0.toml")
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("rfc0.toml")
    assert "\n" not in str(caught.value)


def test_there_are_enough_of_them():
    assert sum(requirement.status == "tested" for requirement in shipped()) >= 150


@pytest.mark.parametrize("requirement", shipped(), ids=lambda requirement: requirement.id)
def test_a_quote_bears_out_its_level(requirement: Requirement):
    """Either word of RFC 2119, or part of a list under such a word."""
    words = {"MUST": ("MUST", "REQUIRED"), "SHOULD": ("SHOULD", "RECOMMENDED"), "MAY": ("MAY", "OPTIONAL")}
    lists = {"rfc2131/4.3.1/02", "rfc1122/3.2.2/05", "rfc1122/3.2.2/06", "rfc1122/3.2.2/08", "rfc4443/2.4/04", "rfc4443/2.4/05"}
    assert requirement.quote == requirement.quote.strip()
    if requirement.level in words and requirement.id not in lists:
        assert any(word in requirement.quote for word in words[requirement.level])


def test_each_tested_requirement_has_a_check_and_each_check_a_tested_requirement():
    tested = {requirement.id for requirement in shipped() if requirement.status == "tested"}
    judged = {check.requirement.id for wall in WALLS.values() if wall.package for check in checks(wall.package)}
    assert tested == judged


def test_the_marks_say_what_the_catalogue_says():
    mark = judges("rfc2131/4.3.2/02").mark
    assert mark.args == ("rfc2131", "4.3.2")
    assert mark.kwargs == {"level": "MUST", "id": "rfc2131/4.3.2/02"}


def test_a_check_is_found_by_its_node_id():
    found = checks_of("pytest_netemu/suites/user_network/test_fragments.py::test_fragments_are_put_together[libslirp]")
    assert [check.requirement.id for check in found] == ["rfc1122/3.3.2/01"]
    assert checks_of("tests/test_mine.py::test_fragments_are_put_together") == []


def test_test_names_are_unique_within_a_suite():
    modules_by_test = Counter((check.module, check.test) for check in checks(package_of("user-network")))
    assert max(modules_by_test.values()) <= 2, "a test that judges many requirements cannot say which one failed"


def test_the_coverage_is_what_was_reviewed():
    """The file beside this one changes in the same commit as the catalogue, so that a review sees what is covered no longer."""
    assert SNAPSHOT.read_text(encoding="utf-8") == snapshot(shipped())
