"""What OpenCode's server tells, as events, and what it asks leave for, as wishes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.drivers.opencode_events import Translator
from aiagent_coordinator.drivers.opencode_wishes import wishes_of

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
TYPES = st.sampled_from(
    ["message.updated", "message.part.updated", "session.status", "session.error"]
)
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["tool", "text", "step-finish", "retry"])},
    optional=dict.fromkeys(("id", "callID", "messageID", "state", "tokens", "error"), JSON),
)
TOLD = st.fixed_dictionaries(
    {"sessionID": st.just("ses_1")},
    optional={"info": JSON, "part": JSON | PARTS, "status": JSON, "error": JSON},
)


@given(TYPES, TOLD)
def test_what_is_no_event_of_its_breaks_nothing(kind: str, told: dict[str, Any]):
    translator = Translator("ses_1")
    for event in translator.notice({"type": kind, "properties": told}):
        assert isinstance(event["event"], str)
    assert list(translator.turn_over()) in ([], [{"event": "text", "text": "x"}])


@given(JSON, JSON, JSON)
def test_what_is_no_request_of_its_is_nothing_that_is_allowed(kind: Any, patterns: Any, told: Any):
    wishes = wishes_of({"permission": kind, "patterns": patterns, "metadata": told}, {})
    assert all(wish.tool for wish in wishes)


@pytest.mark.parametrize(
    ("asked", "wished"),
    [
        (
            {"permission": "bash", "patterns": ["ls", "rm x"], "metadata": {"command": "ls; rm x"}},
            ["ls; rm x"],
        ),
        ({"permission": "bash", "patterns": ["ls", "rm x"]}, ["ls", "rm x"]),
        ({"permission": "edit", "patterns": ["b"], "metadata": {"filepath": "/a/b"}}, ["/a/b"]),
        (
            {"permission": "edit", "patterns": ["b", "c"], "metadata": {"filepath": "/a"}},
            ["b", "c"],
        ),
        (
            {"permission": "edit", "metadata": {"files": [{"filePath": "b", "movePath": "c"}]}},
            ["b", "c"],
        ),
        (
            {"permission": "external_directory", "patterns": ["/tmp/*", "/etc/*"]},
            ["/tmp/*", "/etc/*"],
        ),
        (
            {"permission": "webfetch", "patterns": ["http://x/coord_get_my_task"]},
            ["http://x/coord_get_my_task"],
        ),
        ({"permission": "github_search", "patterns": ["*"]}, ["github_search"]),
        ({"permission": "edit"}, []),
    ],
)
def test_a_request_is_as_many_wishes_as_it_is_about(asked: dict[str, Any], wished: list[str]):
    assert [wish.title for wish in wishes_of(asked, {})] == wished
