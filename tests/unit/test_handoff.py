"""The hand-off: what the next attempt must know, short enough for its prompt."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.pipeline.handoff import MAX_CHARS, HandoffFacts, build
from aiagent_coordinator.redaction import Masker

FACTS = HandoffFacts(
    attempt=1,
    outcome="verify_failed",
    reason="verify_failed",
    summary="I fixed the sum.",
    diagnosis="",
    failing_argv=("python", "-m", "unittest", "two words"),
    failing_exit_code=1,
    failing_output="AssertionError: 109 != 108\nFAILED (failures=1)\n",
    branch="aiagent/shop/tsk_1-sum",
    commit="0123456789abcdef0123",
)


def test_it_tells_what_failed_how_to_see_it_and_what_to_do_first():
    assert build(FACTS) == (
        "Attempt 1 ended: verify_failed (verify_failed). Its work is kept on aiagent/shop/tsk_1-sum"
        " as commit 0123456789ab.\n"
        "\n"
        "The agent's own words: I fixed the sum.\n"
        "\n"
        "This check failed with exit code 1:\n"
        "  python -m unittest 'two words'\n"
        "The end of its output:\n"
        "AssertionError: 109 != 108\n"
        "FAILED (failures=1)\n"
        "\n"
        "First run the failing command yourself and mend what it shows; then finish the task."
    )


def test_a_crash_without_a_check_is_told_by_its_diagnosis():
    facts = HandoffFacts(
        attempt=2, outcome="failed", reason="signal", diagnosis="ended by signal 9"
    )
    assert build(facts) == (
        "Attempt 2 ended: failed (signal).\n\nError: ended by signal 9\n\n"
        "Nothing was kept; begin with the task itself."
    )


def test_work_that_was_kept_is_looked_at_first():
    text = build(replace(FACTS, failing_argv=()))
    assert text.endswith("First look at what that commit already holds; then finish the task.")


def test_a_check_that_was_lost_has_no_exit_code():
    assert "This check failed with no exit code:" in build(replace(FACTS, failing_exit_code=None))


def test_a_long_summary_gives_way_to_the_failing_command():
    text = build(replace(FACTS, summary="word " * 10_000))
    assert len(text) <= MAX_CHARS
    assert "… (cut)\n\nThis check failed" in text
    assert text.endswith("then finish the task.")


def test_of_a_long_output_the_end_is_kept():
    text = build(replace(FACTS, failing_output="noise\n" * 1000 + "the last line"))
    assert "the last line" in text
    assert text.count("noise") < 210


def test_secrets_and_terminal_control_stay_behind():
    facts = replace(
        FACTS, summary="key opensesame\x1b[2J", failing_output="opensesame", diagnosis="opensesame"
    )
    text = build(facts, masker=Masker(["opensesame"]))
    assert "opensesame" not in text
    assert "\x1b" not in text
    assert text.count("[masked]") == 3


def repeat(text: str, times: int) -> str:
    return text * times


LONG = st.builds(repeat, st.text(max_size=20), st.sampled_from([0, 1, 50, 900]))


@given(LONG, LONG, LONG, st.lists(LONG, max_size=3))
def test_it_is_bounded_and_ends_with_what_to_do_whatever_came_before(
    summary: str, diagnosis: str, output: str, argv: list[str]
):
    facts = replace(
        FACTS,
        summary=summary,
        diagnosis=diagnosis,
        failing_output=output,
        failing_argv=tuple(argv),
    )
    text = build(facts)
    assert len(text) <= MAX_CHARS
    assert text.endswith("then finish the task.")
