"""Why a CLI failed: its own words first, then its exit codes, then the plain facts; masked and bounded."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.providers.catalog import load_catalog
from aiagent_coordinator.providers.diagnosis import MAX_TEXT_CHARS, Diagnosis, diagnose
from aiagent_coordinator.providers.shape import ErrorRule
from aiagent_coordinator.redaction import Masker
from aiagent_coordinator.runs import REASONS

PLAIN = load_catalog().get("command")
CLI = replace(
    PLAIN,
    exit_codes={"53": "turn_limit"},
    errors=(
        ErrorRule("Not logged in", "auth", "cli /login"),
        ErrorRule(r"last status: 429", "rate_limited"),
        ErrorRule(r"quota\s.*\sexceeded", "quota"),
    ),
)


@pytest.mark.parametrize(
    ("code", "signal", "err", "reason", "text"),
    [
        (0, None, b"", None, ""),
        (None, None, b"", None, ""),
        (3, None, b"", "exit_nonzero", "exit code 3"),
        (53, None, b"", "turn_limit", "exit code 53"),
        (137, None, b"", "exit_nonzero", "exit code 137"),
        (None, 9, b"", "signal", "ended by signal 9 (SIGKILL)"),
        (None, 15, b"killed\n", "signal", "ended by signal 15 (SIGTERM)\nkilled"),
        (None, 250, b"", "signal", "ended by signal 250"),
        (1, None, b"exceeded, last status: 429 x", "rate_limited", "exceeded, last status: 429 x"),
        (53, None, b"Not logged in", "auth", "Not logged in"),
        (0, None, b"Not logged in", "auth", "Not logged in"),
        (None, 9, b"a\nNot logged in\nb", "auth", "Not logged in"),
    ],
)
def test_an_end_has_its_reason(
    code: int | None, signal: int | None, err: bytes, reason: str | None, text: str
):
    found = diagnose(CLI, code, signal, err)
    assert (found.reason, found.text) == (reason, text)


def test_a_rule_brings_its_remedy():
    assert diagnose(CLI, 1, None, b"Not logged in").remedy == "cli /login"


def test_prose_on_standard_output_is_told_but_never_matched():
    found = diagnose(CLI, 1, None, b"", b"I wrote a test for 'Not logged in'\n")
    assert found == Diagnosis("exit_nonzero", "exit code 1\nI wrote a test for 'Not logged in'")


def test_lines_that_look_like_errors_are_told_before_the_last_ones():
    err = b"Error: the disk is gone\n" + b"at somewhere in a trace\n" * 50
    assert diagnose(PLAIN, 1, None, err).text == "exit code 1\nError: the disk is gone"


def test_without_such_lines_the_last_ones_are_told():
    err = b"".join(b"line %d\n" % n for n in range(100))
    assert diagnose(PLAIN, 1, None, err).text.splitlines()[1:] == [
        f"line {n}" for n in range(90, 100)
    ]


def test_what_is_told_is_masked_and_without_terminal_control():
    err = b"\x1b[31mError: key opensesame and sess_" + b"0a" * 16 + b" refused\x1b[0m\r\n"
    found = diagnose(PLAIN, 1, None, err, masker=Masker(["opensesame"]))
    assert found.text == "exit code 1\nError: key [masked] and [masked] refused"


def test_only_the_end_of_a_long_output_is_looked_at():
    assert diagnose(CLI, 1, None, b"Not logged in\n" + b"x\n" * 50_000).reason == "exit_nonzero"
    assert diagnose(CLI, 1, None, b"Not logged in\n" + b"x\n" * 33_000).reason == "exit_nonzero"


def test_hostile_lines_of_a_megabyte_take_no_time():
    began = time.process_time()
    for line in (b"quota " * 200_000, b"quota\t" + b" " * 1_000_000, b"\n" * 1_000_000):
        diagnose(CLI, 1, None, line, line)
    assert time.process_time() - began < 2


@given(
    st.one_of(st.none(), st.integers(0, 255)), st.one_of(st.none(), st.integers(1, 64)), st.binary()
)
def test_any_output_gives_a_known_reason_and_a_bounded_text(
    code: int | None, signal: int | None, tail: bytes
):
    found = diagnose(CLI, code, signal, tail * 50, tail)
    assert found.reason is None or found.reason in REASONS
    assert len(found.text) <= MAX_TEXT_CHARS
