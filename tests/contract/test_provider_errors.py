"""What the real CLIs said when something was wrong, and what is made of it.

The lines were printed by the versions in `checked`, shortened to the fields that matter.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.providers.catalog import load_catalog
from aiagent_coordinator.providers.diagnosis import diagnose
from aiagent_coordinator.providers.events import DIALECTS
from aiagent_coordinator.providers.transcript import error_texts, session_id

CATALOG = load_catalog()


def result(text: str, status: int | None = None, subtype: str = "success") -> str:
    """Claude's last line: its subtype is `success` beside `is_error`."""
    told = {"type": "result", "subtype": subtype, "is_error": True, "api_error_status": status}
    return json.dumps({**told, "result": text})


def failed(text: str) -> str:
    """Codex's last line."""
    return json.dumps({"type": "turn.failed", "error": {"message": text}})


def gemini(code: int, text: str) -> str:
    """Gemini's last line."""
    inner = json.dumps({"error": {"code": code, "message": text, "status": "X"}})
    error = {"type": "unknown", "message": f"[API Error: {inner}]"}
    return json.dumps({"type": "result", "status": "error", "error": error})


def gemini_said(text: str) -> str:
    """Gemini's last line, with other words."""
    return json.dumps({"type": "result", "status": "error", "error": {"message": text}})


def codex_error(text: str) -> str:
    """What codex calls an error, though it goes on."""
    return json.dumps({"type": "error", "message": text})


def opencode(status: int, text: str) -> str:
    """OpenCode's line."""
    data = {"message": text, "statusCode": status, "isRetryable": False}
    return json.dumps({"type": "error", "error": {"name": "APIError", "data": data}})


def qwen(text: str) -> str:
    """Qwen's last line."""
    told = {"type": "result", "subtype": "error_during_execution", "is_error": True}
    return json.dumps({**told, "error": {"message": text}})


URL = "url: http://127.0.0.1:1/v1/responses"
SAID = [
    ("claude", 1, "", result("Not logged in · Please run /login"), "auth"),
    ("claude", 1, "", result("Failed to authenticate. API Error: 401 x", 401), "auth"),
    ("claude", 1, "", result("Invalid API key · Fix external API key", 401), "auth"),
    ("claude", 1, "", result("API Error: Request rejected (429) · x", 429), "rate_limited"),
    ("claude", 1, "", result("Credit balance is too low", 400), "billing"),
    ("claude", 1, "", result("API Error: 529 Overloaded. This is", 529), "overloaded"),
    ("claude", 1, "", result("API Error: Connection refused (ECONNREFUSED)"), "network"),
    ("claude", 1, "", result("", subtype="error_max_turns"), "turn_limit"),
    (
        "claude",
        1,
        "",
        result("Reached maximum budget ($0.5)", subtype="error_max_budget_usd"),
        "cost_limit",
    ),
    (
        "claude",
        1,
        "",
        result("Request timed out. If the API is slow to answer, or a proxy"),
        "network",
    ),
    ("vibe", 3, "Stopped: turn_limit", "", "turn_limit"),
    ("amp", 1, "No API key found. Starting login flow...\nLogin failed: x", "", "auth"),
    ("amp", 1, "Error: Couldn't connect to the Amp server at http://127.0.0.1:9.", "", "network"),
    ("amp", 1, "Error: error: unknown option '--nonsense'", "", "bad_flags"),
    ("crush", 1, "no providers configured - please run 'crush' to set up", "", "auth"),
    ("vibe", 3, "Stopped: price_limit", "", "cost_limit"),
    (
        "claude",
        1,
        "--dangerously-skip-permissions cannot be used with root/sudo privileges for security",
        "",
        "refused_permission",
    ),
    ("claude", 1, "error: unknown option '--nonsense'", "", "bad_flags"),
    ("codex", 1, "", failed(f"unexpected status 401 Unauthorized: x, {URL}"), "auth"),
    ("codex", 1, "", failed("Quota exceeded. Check your plan and billing details."), "quota"),
    (
        "codex",
        1,
        "",
        failed("exceeded retry limit, last status: 429 Too Many Requests"),
        "rate_limited",
    ),
    ("codex", 1, "", failed(f"unexpected status 503 Service Unavailable: x, {URL}"), "overloaded"),
    ("codex", 1, "", failed("stream disconnected before completion: x"), "network"),
    ("codex", 1, "required MCP servers failed to initialize: coord", "", "tools_absent"),
    ("codex", 2, "error: unexpected argument '--nonsense' found", "", "bad_flags"),
    ("gemini", 144, "", gemini(400, "API key not valid. Please pass a valid API key."), "auth"),
    ("gemini", 145, "Ripgrep is not available.", gemini(401, "x"), "auth"),
    ("gemini", 173, "", gemini(429, "x"), "rate_limited"),
    ("gemini", 247, "", gemini(503, "x"), "overloaded"),
    ("gemini", 41, "Invalid auth method selected.", "", "auth"),
    ("gemini", 53, "", "", "turn_limit"),
    ("gemini", 1, "Unknown argument: nonsense", "", "bad_flags"),
    ("gemini", 1, "", "", "exit_nonzero"),
    ("opencode", 1, "", opencode(401, "bad key"), "auth"),
    ("opencode", 1, "", opencode(429, "slow down"), "rate_limited"),
    ("opencode", 1, "", opencode(500, "x"), "overloaded"),
    ("opencode", 1, "", opencode(0, "Cannot connect to API: Unable to connect."), "network"),
    ("qwen", 1, "", qwen("[API Error: 401 x]"), "auth"),
    ("qwen", 1, "", qwen("[API Error: 429 x]"), "rate_limited"),
    ("qwen", 53, "", "", "turn_limit"),
    ("codex", 0, "", "", None),
    ("claude", 1, "", result("Failed to authenticate. API Error: 403 x", 403), "auth"),
    (
        "claude",
        1,
        "",
        result("API Error: Unable to connect to API (ConnectionRefused)"),
        "network",
    ),
    ("claude", 1, "", result("API Error: Unable to connect to API (ECONNRESET)"), "network"),
    (
        "codex",
        1,
        "",
        failed("We\u2019re currently experiencing high demand, please wait"),
        "overloaded",
    ),
    ("codex", -15, "", codex_error("Reconnecting... waiting for network"), "network"),
    (
        "gemini",
        1,
        "",
        gemini_said("exception TypeError: fetch failed sending request"),
        "network",
    ),
    # a session that is gone is the CLI's own matter: nothing was tried yet
    ("claude", 1, "No conversation found with session ID: u", "", "exit_nonzero"),
    ("codex", 1, "thread/resume failed: no rollout found for thread id u", "", "exit_nonzero"),
    ("gemini", 42, 'Error resuming session: Invalid session identifier "u".', "", "exit_nonzero"),
    ("opencode", 1, "\x1b[91mError: \x1b[0mSession not found", "", "exit_nonzero"),
    ("qwen", 1, "No saved session found with ID u.", "", "exit_nonzero"),
    ("gemini", 0, "MCP issues detected. Run /mcp list for status.", "", "tools_absent"),
    ("qwen", 0, "MCP server(s) failed to start: coord", "", "tools_absent"),
]


@pytest.mark.parametrize(("name", "code", "err", "out", "reason"), SAID)
def test_what_a_real_cli_said_has_its_reason(
    name: str, code: int, err: str, out: str, reason: str | None
):
    told = diagnose(CATALOG.get(name), code, None, err.encode(), f"{out}\n".encode())
    assert told.reason == reason


def test_a_remedy_comes_with_what_a_person_can_mend():
    lines = result("Not logged in · Please run /login").encode()
    told = diagnose(CATALOG.get("claude"), 1, None, b"", lines)
    assert told.text == "Not logged in · Please run /login"
    assert "/login" in told.remedy


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "claude",
            [
                {"type": "assistant", "error": "rate_limit"},
                {"type": "result", "subtype": "success", "is_error": False, "result": "ok"},
            ],
        ),
        (
            "codex",
            [
                {"type": "error", "message": "Reconnecting... 1/5 (unexpected status 503)"},
                {"type": "turn.completed"},
            ],
        ),
        (
            "gemini",
            [
                {"type": "error", "severity": "error", "message": '[API Error: {"code":503}]'},
                {"type": "result", "status": "success"},
            ],
        ),
        (
            "opencode",
            [
                {"type": "error", "error": {"name": "APIError", "data": {"statusCode": 503}}},
                {"type": "step_finish", "part": {"reason": "stop"}},
            ],
        ),
    ],
)
def test_an_error_that_was_got_over_is_no_reason(name: str, lines: list[dict[str, object]]):
    out = "\n".join(json.dumps(line) for line in lines).encode()
    assert diagnose(CATALOG.get(name), 0, None, b"", out).reason is None
    assert error_texts(CATALOG.get(name).output.dialect, out.splitlines()[0]) != []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "claude",
            {"type": "assistant", "message": {"content": [{"text": "Credit balance is too low"}]}},
        ),
        (
            "claude",
            {
                "type": "user",
                "message": {"content": [{"is_error": True, "content": "ECONNREFUSED"}]},
            },
        ),
        (
            "codex",
            {"type": "item.completed", "item": {"type": "agent_message", "text": "Quota exceeded"}},
        ),
        (
            "codex",
            {"type": "item.completed", "item": {"type": "error", "message": "Quota exceeded"}},
        ),
        ("gemini", {"type": "message", "role": "assistant", "content": "API key not valid"}),
        ("gemini", {"type": "error", "severity": "warning", "message": "API key not valid"}),
        ("opencode", {"type": "text", "part": {"text": "API error status 401"}}),
    ],
)
def test_what_a_model_or_a_tool_wrote_is_never_an_error_of_the_cli(
    name: str, line: dict[str, object]
):
    assert (
        diagnose(CATALOG.get(name), 1, None, b"", json.dumps(line).encode()).reason
        == "exit_nonzero"
    )


@pytest.mark.parametrize(
    ("dialect", "line", "found"),
    [
        ("claude-stream", {"type": "system", "subtype": "init", "session_id": "a-1"}, "a-1"),
        ("codex-json", {"type": "thread.started", "thread_id": "0199"}, "0199"),
        ("gemini-stream", {"type": "init", "session_id": "g", "model": "m"}, "g"),
        ("opencode-json", {"type": "step_start", "sessionID": "ses_1"}, "ses_1"),
        ("qwen-stream", {"type": "system", "subtype": "init", "session_id": "q-1"}, "q-1"),
        ("plain", {"type": "init", "session_id": "g"}, None),
        ("claude-stream", {"type": "result", "session_id": "a-1"}, None),
        ("codex-json", {"type": "thread.started", "thread_id": "--sandbox"}, None),
        ("codex-json", {"type": "thread.started", "thread_id": 7}, None),
    ],
)
def test_a_cli_says_what_it_calls_its_session(
    dialect: str, line: dict[str, object], found: str | None
):
    """It becomes a word of the next run's command line, so nothing that could be a flag passes."""
    out = b"noise\n" + json.dumps(line).encode() + b"\n"
    assert session_id(dialect, out) == found


def test_plain_output_states_no_errors():
    assert error_texts("plain", result("Not logged in").encode()) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(("type", "error", "errors", "result", "message", "status", "is_error")), inner),
    max_leaves=9,
)  # fmt: skip


@given(st.sampled_from(DIALECTS), st.lists(JSON | st.binary(max_size=20)))
def test_any_output_can_be_read(dialect: str, lines: list[object]):
    out = b"\n".join(
        line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines
    )
    assert all(isinstance(text, str) for text in error_texts(dialect, out))


def test_hostile_lines_are_skipped():
    deep = b'{"type":' + b"[" * 60_000
    long = b'{"type":"turn.failed","error":"' + b"x" * 100_000 + b'"}'
    out = b"\n".join((b'rest of a line"}', deep, long, failed("at last").encode()))
    cut, *rest = error_texts("codex-json", out)
    assert rest == ["at last"]
    assert len(cut) <= 4000


def test_what_it_states_goes_before_what_stands_on_standard_error():
    """There, programs print the troubles of others too: of their tools, of their servers."""
    err = b"API Error: 401 Invalid API key in the output of a tool\n"
    stated = result("API Error: Request rejected (429) x", 429).encode()
    told = diagnose(CATALOG.get("claude"), 1, None, err, stated)
    assert told.reason == "rate_limited"
    assert diagnose(CATALOG.get("claude"), 1, None, err, b"").reason == "auth"


def test_what_stands_on_standard_error_goes_before_the_exit_code():
    told = diagnose(CATALOG.get("gemini"), 53, None, b"Invalid auth method selected.\n", b"")
    assert told.reason == "auth"
    assert diagnose(CATALOG.get("gemini"), 53, None, b"", b"").reason == "turn_limit"


PROSE = [
    "I added handling of rate limits: a 429 from the API is now retried.",
    "The test says `401 Unauthorized`, which is what we want. Credit balance is too low, too.",
    "API Error: 529 Overloaded. Not logged in · Please run /login",
    "Quota exceeded. Check your plan and billing details.",
]


@pytest.mark.parametrize("prose", PROSE)
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("claude", {"type": "assistant", "message": {"content": [{"type": "text"}]}}),
        ("claude", {"type": "user", "message": {"content": [{"type": "tool_result"}]}}),
        ("claude", {"type": "result", "subtype": "success", "is_error": False}),
        ("codex", {"type": "item.completed", "item": {"id": "1", "type": "agent_message"}}),
        ("codex", {"type": "item.completed", "item": {"id": "1", "type": "command_execution"}}),
        ("gemini", {"type": "message", "role": "assistant"}),
        ("gemini", {"type": "tool_result", "status": "error"}),
        ("opencode", {"type": "text", "part": {}}),
        ("qwen", {"type": "assistant", "message": {"content": [{"type": "text"}]}}),
    ],
)
def test_ordinary_prose_of_limits_is_no_reason(name: str, line: dict[str, object], prose: str):
    words = json.dumps(prose)[1:-1]
    text = json.dumps(line)
    for empty, full in (
        ('{"type": "text"}', f'{{"type": "text", "text": "{words}"}}'),
        ('{"type": "tool_result"}', f'{{"type": "tool_result", "content": "{words}"}}'),
        ('"type": "agent_message"', f'"type": "agent_message", "text": "{words}"'),
        ('"command_execution"', f'"command_execution", "aggregated_output": "{words}"'),
        ('"is_error": false', f'"is_error": false, "result": "{words}"'),
        ('"role": "assistant"', f'"role": "assistant", "content": "{words}"'),
        ('"status": "error"', f'"status": "error", "output": "{words}"'),
        ('"part": {}', f'"part": {{"text": "{words}"}}'),
    ):
        text = text.replace(empty, full)
    assert words in text
    assert diagnose(CATALOG.get(name), 1, None, b"", f"{text}\n".encode()).reason == "exit_nonzero"


@pytest.mark.parametrize(
    ("file", "code", "reason"),
    [
        ("claude-2.1.330/401", 1, "auth"),
        ("claude-2.1.330/429", 1, "rate_limited"),
        ("codex-0.169.0/401", 1, "auth"),
        ("codex-0.169.0/429", 1, "rate_limited"),
        ("gemini-0.61.0/401", 145, "auth"),
        ("opencode-1.18.33/401", 1, "auth"),
        ("opencode-1.18.33/429", 1, "rate_limited"),
        ("qwen-0.24.4/401", 1, "auth"),
    ],
)
def test_what_was_recorded_of_a_real_program_has_its_reason(file: str, code: int, reason: str):
    folder = Path(__file__).parent.parent / "fixtures" / "transcripts"
    out = (folder / f"{file}.jsonl").read_bytes()
    err = folder / f"{file}.err"
    words = err.read_bytes() if err.exists() else b""
    definition = CATALOG.get(file.partition("-")[0])
    assert diagnose(definition, code, None, words, out).reason == reason
