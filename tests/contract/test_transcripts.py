"""What real programs print is understood, in whatever pieces it comes, and whatever stands between.

`tests/fixtures/transcripts` holds what they printed against a scripted model, by program and version, with
paths and ports made neutral; beside each, as `.events`, what it means, its texts cut at 60 characters.
"""

from __future__ import annotations

import json
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.providers.dialects import read_all, reader_of
from aiagent_coordinator.providers.dialects.lines import MAX_LINE_BYTES
from aiagent_coordinator.providers.events import (
    DIALECTS,
    Compaction,
    ContextUse,
    Event,
    Limit,
    PassedOver,
    Started,
    ToolCall,
    ToolResult,
    to_json,
)
from aiagent_coordinator.providers.transcript import digest_of

HOME = Path(__file__).parent.parent / "fixtures" / "transcripts"
FILES = sorted(HOME.glob("*/*.jsonl"))
OF = {
    "claude": "claude-stream",
    "codex": "codex-json",
    "gemini": "gemini-stream",
    "opencode": "opencode-json",
    "qwen": "qwen-stream",
    "copilot": "copilot-json",
    "cline": "cline-json",
    "vibe": "vibe-stream",
}


def dialect_of(file: Path) -> str:
    return OF[file.parent.name.partition("-")[0]]


def short(event: Event) -> dict[str, Any]:
    told = to_json(event)
    for key, value in told.items():
        if key == "arguments":
            told[key] = json.dumps(value)[:60]
        elif isinstance(value, str):
            told[key] = value[:60]
        elif isinstance(value, list):
            told[key] = len(value)  # pyright: ignore[reportUnknownArgumentType] - JSON
    return told


def name_of(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_what_a_real_program_printed_means_what_it_meant(file: Path):
    events = [short(event) for event in read_all(dialect_of(file), (file.read_bytes(),))]
    golden = file.with_suffix(".events").read_text("utf-8").splitlines()
    assert events == [json.loads(line) for line in golden]


@pytest.mark.parametrize("file", FILES, ids=name_of)
@given(cuts=st.lists(st.integers(0, 30_000), max_size=8))
def test_it_means_the_same_in_whatever_pieces_it_comes(file: Path, cuts: list[int]):
    data = file.read_bytes()
    places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    pieces = [data[start:end] for start, end in pairwise(places)]
    dialect = dialect_of(file)
    assert list(read_all(dialect, pieces)) == list(read_all(dialect, (data,)))


@pytest.mark.parametrize("file", FILES, ids=name_of)
@given(
    garbage=st.lists(
        st.binary(max_size=60)
        | st.sampled_from([b"{", b"{}", b'{"type":', b"[1]", b"null", b'{"type":"new-thing"}'])
    )
)
def test_garbage_between_its_lines_changes_nothing(file: Path, garbage: list[bytes]):
    lines = file.read_bytes().splitlines()
    between = [line.replace(b"\n", b"") for line in garbage]
    mixed: list[bytes] = []
    for place, line in enumerate(lines):
        mixed += [line, *between[place : place + 1]]
    dialect = dialect_of(file)
    whole = list(read_all(dialect, (b"\n".join(lines) + b"\n",)))
    assert list(read_all(dialect, (b"\n".join(mixed) + b"\n",))) == whole


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
_KEYS = """type subtype event message content usage tokens item part error data result stats role status
tool_calls arguments mcp_servers rate_limit_info modelUsage state id name text tools"""
_WORDS = """assistant user system init result error item.completed turn.failed tool_use step_finish usage
agent_event text tool_call limit fault started tool_result mcp_tool_call api_retry"""
KEYS = st.sampled_from(_KEYS.split())
WORDS = st.sampled_from(_WORDS.split())


@given(
    dialect=st.sampled_from(DIALECTS),
    lines=st.lists(st.dictionaries(KEYS, WORDS | JSON | st.dictionaries(KEYS, WORDS | JSON))),
)
def test_no_line_whatever_it_says_breaks_a_reader(dialect: str, lines: list[dict[str, Any]]):
    out = "\n".join(json.dumps(line) for line in lines).encode()
    digest = digest_of(dialect, (out,))
    assert len(json.dumps([to_json(event) for event in read_all(dialect, (out,))])) >= 2
    assert len(digest.activity) <= 400


def test_the_dialect_of_our_own_programs_is_the_events_themselves():
    events = [
        event
        for file in FILES
        for event in read_all(dialect_of(file), (file.read_bytes(),))
        if not isinstance(event, PassedOver)
    ]
    lines = b"\n".join(json.dumps(to_json(event)).encode() for event in events)
    assert [to_json(event) for event in read_all("events", (lines,))] == [
        to_json(event) for event in events
    ]


def test_a_line_of_16_mib_is_read_and_a_longer_one_passed_over():
    head = b'{"event":"text","text":"'
    fits = head + b"x" * (MAX_LINE_BYTES - len(head) - 2) + b'"}'
    events = list(read_all("events", (fits + b"\n", b"x" + fits + b"\n", b'{"event":"text"}')))
    read, passed, after = (to_json(event) for event in events)
    assert (read["event"], len(read["text"])) == ("text", 24 * 1024)
    assert passed == {"event": "passed_over", "size_bytes": MAX_LINE_BYTES + 1}
    assert after == {"event": "text", "text": ""}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_flood_without_a_line_end_takes_no_memory(dialect: str):
    reader = reader_of(dialect)
    piece = bytearray(b"{" + b"x" * (256 * 1024))
    tracemalloc.start()
    try:
        for _ in range(256):
            assert reader.feed(bytes(piece)) == []  # each of them new: they would add up
        held, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * 1024 * 1024


def read(dialect: str, *lines: dict[str, Any]) -> list[Event]:
    return list(read_all(dialect, (b"\n".join(json.dumps(line).encode() for line in lines),)))


def test_claude_says_that_our_server_failed():
    """As the program documents it: an offline model server cannot make it do so."""
    servers = [{"name": "coord", "status": "failed"}]
    line = {"type": "system", "subtype": "init", "session_id": "s", "tools": ["Bash"]}
    (started,) = read("claude-stream", {**line, "mcp_servers": servers})
    assert started == Started("s", None, ("Bash",), {"coord": "failed"})


def test_claude_says_how_its_limits_stand():
    """As the program documents it; only accounts of people have such limits."""
    told = {
        "status": "allowed_warning",
        "resetsAt": 1795330800,
        "rateLimitType": "five_hour",
        "utilization": 0.91,
        "unifiedWindows": {
            "five_hour": {"utilization": 0.91, "resetsAt": 1795330800},
            "seven_day": {"utilization": 0.2, "resetsAt": 1795900000},
        },
    }
    assert read("claude-stream", {"type": "rate_limit_event", "rate_limit_info": told}) == [
        Limit("five_hour", "warning", 0.91, "2026-11-22T07:00:00Z"),
        Limit("seven_day", "allowed", 0.2, "2026-11-28T21:06:40Z"),
    ]
    bare = {"status": "rejected", "resetsAt": 1795330800, "rateLimitType": "seven_day"}
    assert read("claude-stream", {"type": "rate_limit_event", "rate_limit_info": bare}) == [
        Limit("seven_day", "rejected", None, "2026-11-22T07:00:00Z")
    ]


def test_claude_says_that_it_shortened_its_context():
    """As the program documents it."""
    facts = {"trigger": "auto", "pre_tokens": 150_000, "post_tokens": 20_000}
    line = {"type": "system", "subtype": "compact_boundary", "compact_metadata": facts}
    assert read("claude-stream", line) == [
        Compaction("auto, 150000 tokens to 20000"),
        ContextUse(20_000),
    ]
    digest = digest_of("claude-stream", (json.dumps(line).encode() + b"\n",) * 5)
    assert digest.compactions == 5
    assert list(digest.last_compactions) == ["auto, 150000 tokens to 20000"] * 3


def test_a_piece_of_arguments_that_a_model_writes_is_told_with_its_call():
    start = {"type": "content_block_start", "index": 1}
    block = {"type": "tool_use", "id": "toolu_1", "name": "Bash"}
    piece = {"type": "input_json_delta", "partial_json": '{"comm'}
    delta = {"type": "content_block_delta", "index": 1, "delta": piece}
    events = read(
        "claude-stream",
        {"type": "stream_event", "event": {**start, "content_block": block}},
        {"type": "stream_event", "event": delta},
    )
    assert [to_json(event) for event in events] == [
        {"event": "tool_delta", "id": "toolu_1", "text": '{"comm'}
    ]


@pytest.mark.parametrize(
    ("dialect", "lines", "told"),
    [
        (
            "cline-json",
            [
                {
                    "type": "agent_event",
                    "event": {
                        "type": "usage",
                        "totalInputTokens": 30,
                        "totalOutputTokens": 4,
                        "totalCost": 0.5,
                    },
                },
            ],
            {"in": 30, "out": 4, "cache": 0, "cost": 0.5},
        ),
        (
            "copilot-json",
            [
                {
                    "type": "assistant.usage",
                    "data": {"inputTokens": 30, "outputTokens": 4, "cacheReadTokens": 10},
                },
                {"type": "result", "sessionId": "s-1", "exitCode": 0},
            ],
            {"in": 20, "out": 4, "cache": 10, "cost": None},
        ),
    ],
)
def test_others_say_what_they_used(dialect: str, lines: list[dict[str, Any]], told: dict[str, Any]):
    """As their documentation shapes it; see the fixtures for what was recorded."""
    out = b"\n".join(json.dumps(line).encode() for line in lines)
    used = digest_of(dialect, (out,)).usage
    assert used is not None
    assert used.as_json() == told


def test_a_call_of_vibe_that_is_told_of_before_it_is_over_is_one_call():
    """What was recorded tells of each when it is over; the protocol behind it knows more."""
    detail = {"toolName": "file_system.bash", "input": {"command": "pytest -q"}}
    call = {"id": "e1", "sessionId": "s1", "type": "effect", "detail": detail}
    events = read(
        "vibe-stream",
        {**call, "state": {"status": "running"}},
        {**call, "state": {"status": "failed", "error": {"message": "denied"}, "durationMs": 1500}},
    )
    assert events == [
        Started("s1"),
        ToolCall("e1", "file_system.bash", {"command": "pytest -q"}),
        ToolResult("e1", "denied", is_error=True, seconds=1.5),
    ]


def test_a_program_that_says_nothing_new_is_not_understood_and_breaks_nothing():
    assert read("vibe-stream", {"type": "critic", "content": "?"}, {"type": "effect"}) == [
        ToolCall("", "", {}),
        ToolResult("", "", is_error=True),
    ]


def test_an_account_that_may_be_asked_again_later_says_when():
    data = {"statusCode": 429, "message": "slow down", "responseHeaders": {"retry-after": "17"}}
    error = {"type": "error", "error": {"name": "APIError", "data": data}}
    (fault, _) = digest_of("opencode-json", (json.dumps(error).encode(),)).faults
    assert (fault.status, fault.retry_after_seconds) == (429, 17.0)
    inner = json.dumps({"error": {"code": 429, "details": [{"retryDelay": "34.5s"}]}})
    said = {"type": "result", "status": "error", "error": {"message": f"[API Error: {inner}]"}}
    (fault,) = digest_of("gemini-stream", (json.dumps(said).encode(),)).faults
    assert (fault.status, fault.retry_after_seconds) == (429, 34.5)
