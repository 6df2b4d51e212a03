"""What one line may hold, and that no arrangement of bytes breaks the reader."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.wire.framing import (
    MAX_DEPTH,
    FrameError,
    FrameTooLargeError,
    LineBuffer,
    decode,
    encode,
)

TEXT = st.text(st.characters(exclude_categories=()))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES, max_size=5)


def collect(pieces: list[bytes], limit: int) -> tuple[list[bytes], bool]:
    """All lines of a stream in pieces, and whether it ended in a line that is too large."""
    buffer = LineBuffer(limit)
    lines: list[bytes] = []
    try:
        for piece in pieces:
            lines += buffer.feed(piece)
    except FrameTooLargeError as error:
        return lines + error.before, True
    return lines, False


@given(OBJECTS)
def test_what_was_encoded_is_decoded_on_one_line(message: dict[str, object]) -> None:
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert all(ord(char) < 0xD800 or ord(char) > 0xDFFF for char in str(decode(line)))


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers()))
def test_a_message_survives_the_wire_unchanged(message: dict[str, int]) -> None:
    assert decode(encode(message)) == message


@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from([b"\n", b"{}", b"  ", b"\r\n", b"x" * 30])).map(b"".join),
    st.lists(st.integers(0, 200)),
    st.integers(2, 40),
)
def test_any_split_gives_the_same_lines(data: bytes, cuts: list[int], limit: int) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut <= len(data)), len(data)]
    pieces = [data[start:end] for start, end in pairwise(edges)]
    assert b"".join(pieces) == data
    single_bytes = [data[index : index + 1] for index in range(len(data))]
    assert collect(pieces, limit) == collect([data], limit) == collect(single_bytes, limit)


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_frame_error(data: bytes) -> None:
    with contextlib.suppress(FrameError):
        decode(data)


@given(st.text('[]{}",:\\a1u d8.eN-', max_size=200))
def test_no_bracket_soup_raises_anything_but_frame_error(text: str) -> None:
    with contextlib.suppress(FrameError):
        decode(text.encode() * 8)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"", "parse"),
        (b"\xff{}", "parse"),
        (b"\xef\xbb\xbf{}", "parse"),
        (b"{", "parse"),
        (b"{} {}", "parse"),
        (b'{"a":NaN}', "parse"),
        (b'{"a":-Infinity}', "parse"),
        (b'{"a":1e999}', "invalid"),
        (b'{"a":' + b"9" * 5000 + b"}", "parse"),
        (b'{"a":"\xed\xa0\x80"}', "parse"),
        (b"[]", "invalid"),
        (b'"text"', "invalid"),
        (b'{"a":' * 100_000, "invalid"),
        (b"[" * 1_000_000, "invalid"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "invalid"),
        (b'{"a":' + b"[{" * 40, "invalid"),
    ],
)
def test_what_is_no_message_is_refused_by_kind(line: bytes, kind: str) -> None:
    with pytest.raises(FrameError) as caught:
        decode(line)
    assert caught.value.kind == kind


def test_the_deepest_allowed_nesting_passes() -> None:
    line = b'{"a":' * MAX_DEPTH + b'"[[[["' + b"}" * MAX_DEPTH
    assert str(decode(line)).count("{") == MAX_DEPTH


def test_brackets_in_text_and_many_siblings_are_no_depth() -> None:
    message: dict[str, object] = {"text": '\\"[{' * 1000, "list": [[{}]] * 1000}
    assert decode(encode(message)) == message


def test_the_last_of_a_duplicated_key_counts() -> None:
    assert decode(b'{"a":1,"a":2}') == {"a": 2}


def test_half_an_emoji_arrives_as_a_replacement_character() -> None:
    arrived = decode(b'{"\\ud83d":["cut \\uD83D"],"whole":"\\ud83d\\ude00"}')
    assert arrived == {"\ufffd": ["cut " + "\ufffd"], "whole": "\U0001f600"}
    assert decode(encode({"a": "\ud800"})) == {"a": "\ufffd"}


def test_numbers_without_json_form_are_not_sent() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode({"a": float("nan")})


def test_a_line_may_fill_the_limit_and_not_more() -> None:
    assert LineBuffer(10).feed(b"123456789\n") == [b"123456789"]
    with pytest.raises(FrameTooLargeError) as caught:
        LineBuffer(10).feed(b"ok\n1234567890\n")
    assert caught.value.before == [b"ok"]
    with pytest.raises(FrameTooLargeError) as caught:
        LineBuffer(10).feed(b"ok\n1234567890")
    assert caught.value.before == [b"ok"]


def test_sixteen_mebibytes_in_small_pieces_take_no_quadratic_time() -> None:
    buffer = LineBuffer()
    piece = b"x" * 4096
    for _ in range(4095):
        assert buffer.feed(piece) == []
    (line,) = buffer.feed(b"\n")
    assert len(line) == 4095 * 4096
