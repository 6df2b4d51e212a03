"""Columns on a terminal: nothing is lost, nothing is wider than it may be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.cli import columns

#: Letters, spaces, wide characters, an accent that takes no column of its own.
TEXTS = st.text(alphabet=st.sampled_from("ab \u65e5\u672c\u0301\uff21-"), max_size=60)


@given(TEXTS, st.integers(2, 30))
def test_a_folded_text_loses_nothing_but_spaces_and_fits(text: str, room: int):
    lines = columns.fold(text, room)
    assert all(columns.width(line) <= room for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(
    st.lists(st.lists(TEXTS, min_size=4, max_size=4), min_size=1, max_size=5),
    st.integers(40, 120),
)
def test_fitted_columns_fit_or_become_blocks(rows: list[list[str]], room: int):
    lines = columns.fitted(rows, room)
    if lines is None:
        lines = list(columns.blocks(rows, room))
    assert all(columns.width(line) <= room for line in lines)
    kept = sorted("".join(lines).replace(" ", ""))
    assert kept == sorted("".join("".join(row) for row in rows).replace(" ", ""))


IDENT = "tsk_" + "0" * 26


def test_the_first_column_stays_whole_when_it_is_an_id():
    """People copy it."""
    lines = columns.fitted([[IDENT, "queued", "app", "worker", "a title " * 20]], 80)
    assert lines is not None
    assert lines[0].startswith(IDENT)
    assert len(lines) > 5


def test_a_word_is_not_folded_while_longer_cells_can_be():
    row = ["Give the discount on the whole order", "succeeded", "aiagent/shop/" + "x" * 70]
    lines = columns.fitted([row], 60)
    assert lines is not None
    assert "succeeded" in lines[0]


def test_columns_that_nobody_could_read_are_none():
    """Then each row is a block of its own."""
    assert columns.fitted([[IDENT, "queued", "app", "worker", "a title " * 20]], 60) is None


def test_words_stay_whole_where_they_fit():
    assert columns.fold("one two three four", 9) == ["one two", "three", "four"]


def test_columns_off_a_terminal_are_whole_and_aligned_by_what_characters_take():
    rows = [["\u65e5\u672c", "x"], ["abcdef", "y"]]
    assert list(columns.whole(rows)) == ["\u65e5\u672c    x", "abcdef  y"]
