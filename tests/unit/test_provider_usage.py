"""What a program says that it used, in the words of each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aiagent_coordinator.providers.transcript import usage_of
from aiagent_coordinator.quota import Lane, Price, with_estimate


def lines(*events: dict[str, Any]) -> list[bytes]:
    return [json.dumps(event).encode() + b"\n" for event in events]


def claude(message: str, begun: int = 1) -> dict[str, Any]:
    used = {"input_tokens": 10, "output_tokens": begun, "cache_read_input_tokens": 3}
    return {"type": "assistant", "message": {"id": message, "usage": used}}


CLAUDE_END = {
    "type": "result",
    "total_cost_usd": 0.25,
    "usage": {
        "input_tokens": 30,
        "output_tokens": 40,
        "cache_creation_input_tokens": 5,
        "cache_read_input_tokens": 6,
    },
}
CODEX = {"input_tokens": 90, "cached_input_tokens": 20, "output_tokens": 7}
STEP = {"input": 8, "output": 4, "reasoning": 1, "cache": {"read": 2, "write": 3}}
QWEN = {"input_tokens": 50, "output_tokens": 5, "cache_read_input_tokens": 20}


@pytest.mark.parametrize(
    ("dialect", "events", "told"),
    [
        (
            "claude-stream",
            [claude("m1"), claude("m2"), CLAUDE_END],
            {"in": 30, "out": 40, "cache": 11, "cost": 0.25},
        ),
        (
            "claude-stream",
            # killed before its last line; a message is told again as it grows
            [claude("m1"), claude("m1", 4), claude("m2")],
            {"in": 20, "out": 5, "cache": 6, "cost": None, "partial": True},
        ),
        (
            "codex-json",
            [{"type": "turn.completed", "usage": CODEX}],
            {"in": 70, "out": 7, "cache": 20, "cost": None},
        ),
        (
            "gemini-stream",
            [{"type": "result", "stats": {"input_tokens": 9, "output_tokens": 2, "cached": 4}}],
            {"in": 5, "out": 2, "cache": 4, "cost": None},
        ),
        (
            "opencode-json",
            [
                {"type": "step_finish", "part": {"id": "1", "tokens": STEP, "cost": 0.5}},
                {"type": "step_finish", "part": {"id": "2", "tokens": STEP, "cost": 0.25}},
            ],
            {"in": 16, "out": 10, "cache": 10, "cost": 0.75},
        ),
        (
            "qwen-stream",
            [{"type": "result", "usage": QWEN}],
            {"in": 30, "out": 5, "cache": 20, "cost": None},
        ),
    ],
)
def test_each_program_counts_in_its_own_words(
    dialect: str, events: list[dict[str, Any]], told: dict[str, Any]
):
    found = usage_of(dialect, lines(*events))
    assert found is not None
    assert found.as_json() == told


INIT = {"type": "system", "subtype": "init", "session_id": "s", "model": "wise\u00001"}
PARTS = {
    "wise-1": {"inputTokens": 20, "outputTokens": 30, "cacheReadInputTokens": 11, "costUSD": 0.2},
    "quick-1": {"inputTokens": 10, "outputTokens": 10, "costUSD": 0.05},
}
OF_WISE = {"in": 20, "out": 30, "cache": 11, "cost": 0.2}
OF_QUICK = {"in": 10, "out": 10, "cache": 0, "cost": 0.05}


@pytest.mark.parametrize(
    ("dialect", "events", "named"),
    [
        ("claude-stream", [INIT, CLAUDE_END], {"model": "wise1"}),
        # what was asked for, and what did the work
        (
            "claude-stream",
            [INIT, {**CLAUDE_END, "modelUsage": PARTS}],
            {"models": {"wise-1": OF_WISE, "quick-1": OF_QUICK}},
        ),
        ("qwen-stream", [INIT, {"type": "result", "usage": QWEN}], {"model": "wise1"}),
        (
            "gemini-stream",
            [
                {"type": "init", "session_id": "s", "model": "auto"},
                {
                    "type": "result",
                    "stats": {
                        "input_tokens": 9,
                        "models": {"g-2": {"input_tokens": 9, "cached": 4}},
                    },
                },
            ],
            {"models": {"g-2": {"in": 5, "out": 0, "cache": 4, "cost": None}}},
        ),
        (
            "events",
            [
                {"event": "started", "model": "wise-1"},
                {"event": "usage", "in": 30, "is_total": True, "models": {"wise-1": OF_WISE}},
            ],
            {"models": {"wise-1": OF_WISE}},
        ),
        ("events", [{"event": "usage", "in": 30, "is_total": True, "models": [1]}], {}),
    ],
)
def test_the_models_that_a_program_names_stand_with_what_it_used(
    dialect: str, events: list[dict[str, Any]], named: dict[str, Any]
):
    found = usage_of(dialect, lines(*events))
    assert found is not None
    told = found.as_json()
    assert {key: told[key] for key in ("model", "models") if key in told} == named


def test_money_of_several_models_is_reckoned_by_the_price_of_each():
    prices = {
        "wise*": Price(10.0, 0.0, 0.0),
        "quick*": Price(1.0, 0.0, 0.0),
        "*": Price(5.0, 0.0, 0.0),
    }
    parts = {"wise-1": {"in": 1_000_000}, "quick-1": {"in": 1_000_000, "cost": None}}
    told = with_estimate({"in": 2_000_000, "models": parts}, Lane("x"), prices)
    assert told is not None
    assert told["estimate"] == 11.0
    assert {name: one["estimate"] for name, one in told["models"].items()} == {
        "wise-1": 10.0,
        "quick-1": 1.0,
    }
    # of one, what was asked for has a price of its own, else what the program says it was
    one = {"in": 1_000_000, "model": "wise-1"}
    for asked, cost in ((None, 10.0), ("quick", 1.0)):
        found = with_estimate(one, Lane("x", model=asked), prices)
        assert found == {**one, "estimate": cost}


@pytest.mark.parametrize("dialect", ["claude-stream", "codex-json", "opencode-json", "plain"])
def test_who_says_nothing_used_nothing_that_is_known(dialect: str):
    assert usage_of(dialect, [b"hello\n", b'{"type":"text","text":"usage"}\n']) is None


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"result","usage":',
        b'{"type":"result","usage":[1]}',
        b'{"type":"result","usage":{"input_tokens":"many","output_tokens":-4}}',
        b'{"type":"result","usage":{"input_tokens":1e400,"output_tokens":true}}',
        b'{"type":"result","usage":' + b"[" * 100_000,
        b'["usage"]',
        b'{"type":"assistant","message":{"usage":null}}',
    ],
)
def test_nonsense_counts_as_nothing(line: bytes):
    good = lines(CLAUDE_END)
    found = usage_of("claude-stream", [line + b"\n", *good])
    assert found is not None
    assert found.fresh == 30
    left = usage_of("claude-stream", [line])
    assert left is None or (left.fresh, left.out, left.cost) == (0, 0, None)


def test_a_line_without_an_end_is_read_as_far_as_it_goes():
    whole = json.dumps(CLAUDE_END).encode()
    assert usage_of("claude-stream", [whole]) is not None
    assert usage_of("claude-stream", [whole[:-5]]) is None
    assert usage_of("claude-stream", [whole[9:], b"x" * 3_000_000]) is None
