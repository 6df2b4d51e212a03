"""Changing one value of a file: what stays, what is changed, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.config.edit import find_key, renderings, save, with_value
from aiagent_coordinator.config.source import parse_source
from aiagent_coordinator.errors import ConfigError, NotFoundError, ValidationError

FILE = """\
# mine
max_concurrent: 2   # runs
empty:
agents:
  a.b:
    provider: x     # scripted
    # about a.b

  flo: {provider: 'x'}
projects:
  - id: shop
    path: .
    checks:
      - make test
  # the end
"""


def change(content: str, key: str, value: str) -> str:
    path = find_key(parse_source(content, "F").data, key)
    return with_value(content, path, renderings(value)[0], "F")


@pytest.mark.parametrize(
    ("key", "value", "before", "after"),
    [
        ("max_concurrent", "5", "max_concurrent: 2   # runs\n", "max_concurrent: 5   # runs\n"),
        ("empty", "5", "empty:\n", "empty: 5\n"),
        ("empty.inside.it", "5", "empty:\n", "empty: {inside: {it: 5}}\n"),
        ("agents.a.b.provider", "y z", "provider: x     #", "provider: y z     #"),
        (
            "agents.a.b.model",
            "m",
            "    provider: x     # scripted\n",
            "    provider: x     # scripted\n    model: m\n",
        ),
        ("agents.flo.provider", "z", "{provider: 'x'}", "{provider: z}"),
        ("agents.flo.model", "m", "{provider: 'x'}", "{provider: 'x', model: m}"),
        (
            "agents.new.provider",
            "z",
            "  flo: {provider: 'x'}\n",
            "  flo: {provider: 'x'}\n  new:\n    provider: z\n",
        ),
        ("projects.shop.path", "/x", "path: .\n", "path: /x\n"),
        ("projects[0].path", "/x", "path: .\n", "path: /x\n"),
        ("projects[0].checks[0]", "true", "- make test\n", "- true\n"),
        (
            "projects.shop.base_ref",
            "main",
            "      - make test\n",
            "      - make test\n    base_ref: main\n",
        ),
        ("top.new", "# x", "  # the end\n", None),
    ],
)
def test_one_value_changes_and_every_other_character_stays(
    key: str, value: str, before: str, after: str | None
) -> None:
    changed = change(FILE, key, value)
    if after is None:
        # what is appended to the whole goes behind the last value
        assert changed == FILE.replace(before, 'top:\n  new: "# x"\n' + before)
    else:
        assert FILE.count(before) == 1
        assert changed == FILE.replace(before, after)


def test_an_empty_file_a_missing_line_end_and_foreign_line_ends_are_kept() -> None:
    assert change("", "a", "1") == "a: 1\n"
    assert change("# only this", "a", "1") == "# only this\na: 1\n"
    assert change("a: 1", "b", "2") == "a: 1\nb: 2\n"
    assert change("a: 1\r\nb: 2\r\n", "c.d", "3") == "a: 1\r\nb: 2\r\nc:\r\n  d: 3\r\n"
    assert change("\ufeffa: 1\n", "a", "2") == "\ufeffa: 2\n"


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ("a:\n- x\n- z\n", "a"),
        ("a: |\n  x\n", "a"),
        ("a: 'x\n\n  y'\n", "a"),
        ("a: [x,\n  z]\n", "a"),
        ("a: 1\n", "a.b"),
        # what is added there would become part of the comment
        ("a: {x: 1\n  # d\n  }\n", "a.k"),
    ],
)
def test_what_has_no_line_of_its_own_is_refused(content: str, key: str) -> None:
    with pytest.raises(ConfigError, match="cannot be changed on its own line"):
        change(content, key, "1")


@pytest.mark.parametrize("key", ["", ".", "a..b", "a[x]", "a[", "[]"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(ValidationError):
        find_key({}, key)


def test_an_entry_that_is_not_there_is_told() -> None:
    with pytest.raises(NotFoundError, match="projects has no entry nope"):
        find_key(parse_source(FILE, "F").data, "projects.nope.path")


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=30)
)
def test_whatever_text_is_set_is_what_is_read_or_the_whole_is_refused(value: str) -> None:
    path = find_key(parse_source(FILE, "F").data, "agents.flo.role")
    try:
        changed = with_value(FILE, path, renderings(value)[-1], "F")
    except ConfigError:
        # not every character may stand in YAML
        assert not value.isprintable()
        return
    data = parse_source(changed, "F").data
    assert find_value(data, "agents", "flo", "role") == value
    assert changed.splitlines()[:8] == FILE.splitlines()[:8]


def find_value(data: object, *key: str) -> object:
    for part in key:
        assert isinstance(data, dict)
        data = data[part]  # pyright: ignore[reportUnknownVariableType] - the data of the file
    return data  # pyright: ignore[reportUnknownVariableType] - the data of the file


def test_a_link_stays_a_link_and_the_permissions_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    real.write_text("a: 1\n", "utf-8")
    real.chmod(0o640)
    link.symlink_to(real)
    save(link, "a: 2\n")
    assert link.is_symlink()
    assert real.read_text("utf-8") == "a: 2\n"
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.yaml", "real.yaml"]
