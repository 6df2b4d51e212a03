"""Masking: nothing known as secret comes out, whatever the cut, and nothing else changes."""

from __future__ import annotations

import base64
import json
import time
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.redaction import MASK, Masker, printable

SESSION = "sess_" + "0123456789abcdef" * 2
KEY = "sk-ant-" + "aB3_" * 30
#: Few letters, so that secrets overlap each other and the text around them.
SECRETS = st.lists(st.text("ab\n%+", min_size=6, max_size=12), max_size=4)
PIECES = st.lists(
    st.one_of(
        st.binary(max_size=8),
        st.sampled_from([b"ab" * 5, b"task-", b"\\n", SESSION.encode(), KEY.encode(), b"sk-"]),
        st.text("ab\n%+", max_size=20).map(str.encode),
    ),
    max_size=12,
).map(b"".join)


def streamed(masker: Masker, data: bytes, cuts: list[int]) -> bytes:
    stream = masker.stream()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = [stream.feed(data[a:b]) for a, b in pairwise(edges)]
    return b"".join(pieces) + stream.finish()


@given(SECRETS, PIECES, st.lists(st.integers(0, 10_000), max_size=6))
def test_the_cut_of_a_stream_changes_nothing(secrets: list[str], data: bytes, cuts: list[int]):
    masker = Masker(secrets)
    assert streamed(masker, data, cuts) == masker.mask_bytes(data)


@given(SECRETS, PIECES)
def test_byte_by_byte_is_the_same_as_at_once(secrets: list[str], data: bytes):
    masker = Masker(secrets)
    assert streamed(masker, data, list(range(len(data)))) == masker.mask_bytes(data)


@given(st.text("xyz0", min_size=6, max_size=12), st.lists(st.text("xyz0 \n", max_size=9)))
def test_no_secret_comes_out(secret: str, around: list[str]):
    masked = Masker([secret]).mask_text(secret.join(around))
    assert secret not in masked


@given(st.binary(max_size=200))
def test_what_holds_no_secret_is_unchanged(data: bytes):
    assert Masker(["correct horse battery"]).mask_bytes(data) == data


@pytest.mark.parametrize(
    "written",
    [
        'p"ss\\wörd/+1',
        json.dumps('p"ss\\wörd/+1'),
        quote('p"ss\\wörd/+1', safe=""),
        base64.b64encode('p"ss\\wörd/+1'.encode()).decode(),
        base64.b64encode(b"x" + 'p"ss\\wörd/+1'.encode() + b"yz").decode(),
        base64.urlsafe_b64encode(b"xy" + 'p"ss\\wörd/+1'.encode()).decode(),
    ],
)
def test_a_secret_is_found_in_the_forms_programs_write(written: str):
    masked = Masker(['p"ss\\wörd/+1']).mask_text(f"before {written} after")
    assert MASK in masked
    assert len(masked) < len(f"before {MASK} after") + 10
    assert masked.startswith("before ")
    assert masked.endswith(" after")


def test_each_line_of_a_secret_is_a_secret():
    masker = Masker(["-----BEGIN-----\nMIIEpAIBAAKCAQEA\n-----END-----"])
    assert masker.mask_text("out | MIIEpAIBAAKCAQEA |") == f"out | {MASK} |"


def test_overlapping_secrets_leave_no_end_behind():
    assert Masker(["abcdef", "defghi"]).mask_text("<abcdefghi>") == f"<{MASK}>"
    assert Masker(["abcabc"]).mask_text("<abcabcabc>") == f"<{MASK}>"


@pytest.mark.parametrize(
    "token",
    [SESSION, KEY, "ghp_" + "a1" * 18, "github_pat_" + "a1" * 20, "AIza" + "a1" * 18],
)
def test_tokens_of_known_shapes_are_masked_without_being_told(token: str):
    assert Masker().mask_text(f'{{"key":"{token}"}}') == f'{{"key":"{MASK}"}}'
    assert Masker().mask_text(f"line\\n{token}") == f"line\\n{MASK}"


def test_ordinary_words_are_no_tokens():
    text = "task-branch-name-that-is-long tsk_01jc sess_not_hex AIza short sk-1"
    assert Masker().mask_text(text) == text


def test_a_word_is_too_short_to_be_a_secret():
    assert Masker(["main", ""]).mask_text("on main") == "on main"


def test_text_that_is_no_text_passes():
    assert Masker(["secret-value"]).mask_text("\ud800 secret-value") == f"\ud800 {MASK}"


def test_a_token_of_megabytes_is_masked_in_bounded_memory():
    stream = Masker().stream()
    out = stream.feed(b"sk-" + b"a" * 100)
    out += b"".join(stream.feed(b"b" * 65_536) for _ in range(40))
    assert out + stream.feed(b" after") + stream.finish() == MASK.encode() + b" after"


def test_a_hundred_megabytes_of_clean_output_with_fifty_secrets_is_no_wait():
    masker = Masker([f"secret-number-{n:04}-of-fifty" for n in range(50)])
    block = (
        b"an ordinary line of output, nothing in it; the task goes on, night and light\n" * 13_000
    )
    began = time.process_time()
    masker.mask_bytes(block)
    # 1 MB; a hundred times this is under ten seconds with room for a slow machine
    assert time.process_time() - began < 0.1


def test_terminal_control_is_dropped_and_text_stays():
    text = "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b]8;;http://x\x1b\\link\r\x9b\x00 tab\there\n"
    assert printable(text) == "red link tab\there\n"


def test_a_flood_of_token_beginnings_is_masked_in_linear_time():
    began = time.process_time()
    assert Masker().mask_bytes(b"AIza" * 500_000) == MASK.encode()
    assert time.process_time() - began < 1
