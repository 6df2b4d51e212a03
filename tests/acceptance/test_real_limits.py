"""The real CLIs at a limit of their provider: only when asked for, as `test_real_clis`.

AIAGENT_REAL_CLIS=1 AIAGENT_CLI_CACHE=~/.cache/aiagent-clis pytest tests/acceptance/test_real_limits.py -s

The model refuses with what its family sends, until the time that it names, and works from then on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support.clis import RUN_SECONDS, WANTED, ended, model, output_of, programs, working
from support.house import until
from support.repo import git
from support.scenarios import BEGIN, END, NEXT, WRITE, add, end_of, nothing_is_left, planned

__test__ = bool(WANTED)
pytestmark = [pytest.mark.needs("node"), pytest.mark.timeout(600)]


@pytest.fixture(scope="session")
def clis() -> Iterator[Path]:
    """The folder with the programs."""
    yield from programs()


@dataclass(frozen=True)
class Refusal:
    """What a provider answers at its limit, and what is made of it."""

    name: str
    cli: str
    headers: tuple[str, ...] = ()
    body: dict[str, Any] | None = None
    reason: str = "rate_limited"
    confidence: str = "stated"
    window: str = ""
    #: Seconds that the limit is over later than it was said, at most.
    later: float = 10.0
    #: So long nothing is answered; no CLI of these begins in less.
    lasts: float = 20.0
    #: It is over so late that a person opens it.
    is_far: bool = False

    @property
    def words(self) -> list[str]:
        """The words that the scripted model is started with."""
        said = ["--fault", "status", "--status", "429", "--after", "4", "--lasts", str(self.lasts)]
        for header in self.headers:
            said += ["--header", header]
        return said if self.body is None else [*said, "--body", json.dumps(self.body)]


_UNIFIED = "anthropic-ratelimit-unified"
_GOOGLE = "type.googleapis.com/google.rpc"


def google(quota_id: str, delay: str | None) -> dict[str, Any]:
    """The body of Gemini's refusals."""
    metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
    violations = [{"quotaMetric": metric, "quotaId": quota_id}]
    details: list[dict[str, Any]] = [{"@type": f"{_GOOGLE}.QuotaFailure", "violations": violations}]
    if delay:
        details.append({"@type": f"{_GOOGLE}.RetryInfo", "retryDelay": delay})
    words = "You exceeded your current quota, please check your plan and billing details."
    error = {"code": 429, "message": words, "status": "RESOURCE_EXHAUSTED", "details": details}
    return {"error": error}


def openai(kind: str, words: str, **more: Any) -> dict[str, Any]:
    """The body of OpenAI's refusals."""
    return {"error": {"type": kind, "code": kind, "message": words, "param": None, **more}}


_TOO_MANY = (
    "Rate limit reached for scripted-model on tokens per min (TPM): Limit 30000, Used 30000."
    " Please try again in {left}s."
)
_EXCEEDED = "This request would exceed your account's rate limit. Please try again later."
REFUSALS = (
    Refusal(
        "five hours",
        "claude",
        (
            f"{_UNIFIED}-status: rejected",
            f"{_UNIFIED}-reset: {{epoch}}",
            f"{_UNIFIED}-representative-claim: five_hour",
            "retry-after: {left}",
        ),
        {"type": "error", "error": {"type": "rate_limit_error", "message": _EXCEEDED}},
    ),
    Refusal(
        "usage_limit_reached",
        "codex",
        body=openai(
            "usage_limit_reached",
            "The usage limit has been reached",
            plan_type="plus",
            resets_at="{epoch}",
            resets_in_seconds="{left}",
        ),
        reason="quota",
        confidence="derived",
        later=63.0,  # it leaves out the seconds
    ),
    # it keeps the words to itself
    Refusal(
        "try again in 20s",
        "codex",
        body=openai("rate_limit_exceeded", _TOO_MANY),
        confidence="assumed",
        later=20.0,
    ),
    Refusal(
        "per minute",
        "gemini",
        body=google("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "{left}s"),
    ),
    Refusal(
        "per day",
        "gemini",
        body=google("GenerateRequestsPerDayPerProjectPerModel-FreeTier", None),
        reason="quota",
        confidence="derived",
        window="daily",
        is_far=True,
    ),
    Refusal(
        "try again in 20s",
        "opencode",
        ("retry-after: {left}",),
        openai("rate_limit_exceeded", _TOO_MANY),
    ),
    Refusal(
        "try again in 20s",
        "qwen",
        ("retry-after: {left}",),
        openai("rate_limit_exceeded", _TOO_MANY),
        lasts=100.0,  # a minute it waits without a word, and says more after half of one
        later=33.0,
    ),
)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    "refusal",
    [one for one in REFUSALS if one.cli in WANTED],
    ids=lambda one: f"{one.cli}-{one.name}",
)
def test_a_limit_parks_the_account_until_it_resets_and_the_session_goes_on(
    refusal: Refusal, short_dir: Path, clis: Path
):
    plan = planned(short_dir, *BEGIN, NEXT, *BEGIN, NEXT, WRITE, *END)
    settings: dict[str, Any] = {
        "quota": {"jitter": "0s", "assumed_wait": f"{refusal.lasts:.0f}s"},
        # else it would wait so long by itself
        "limits": {"retry_timeout": "2s"},
        "also": ("other",),
    }
    with (
        model(short_dir, *plan, *refusal.words) as served,
        working(short_dir, refusal.cli, clis, served, **settings) as home,
    ):
        task_id = add(home)
        first = ended(home, task_id)
        told = output_of(home, first)
        assert (first["outcome"], first["reason"]) == ("failed", refusal.reason), told
        (limit,) = home.ask("list_limits")["limits"]
        assert (limit["confidence"], limit["period"]) == (refusal.confidence, refusal.window), told
        assert limit["state"] == "parked"
        struck = next(line["at"] for line in served.requests() if "fault" in line)
        over = datetime.fromtimestamp(struck, UTC) + timedelta(seconds=refusal.lasts)
        until_then = _instant(limit["until"])
        assert until_then >= over - timedelta(seconds=1), (limit, told)
        # nobody else of that account starts
        other = add(home, agent="other")
        assert "parked until" in home.run("explain", other).stdout
        if refusal.is_far:
            until("it is over", lambda: datetime.now(UTC) > over + timedelta(seconds=1))
            home.run("quota", "clear", refusal.cli)
        else:
            assert until_then <= over + timedelta(seconds=1 + refusal.later), (limit, told)
        done = home.finished(task_id, RUN_SECONDS)
        _, second = home.runs(task_id)
        assert (done["status"], done["attempt"]) == ("succeeded", 1), output_of(home, second)
        if not refusal.is_far:
            starts = [_instant(run["started_at"]) for run in home.runs()[1:]]
            assert all(until_then <= start for start in starts)
        assert second["resumed_session_id"] == first["provider_session_id"] is not None
        assert git(home.repo, "show", f"{second['commit']}:model.txt") == "written by a model"
        home.run("task", "cancel", other, check=False)
        parked = f"parked until {limit['until'][11:19]}Z, {limit['confidence']}"
        parked += f" (over at {over:%H:%M:%S}Z)"
        print(f"\n| {refusal.cli} | {refusal.name} | {end_of(first)} | {parked} | resumed |")


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("name", WANTED)
def test_who_is_refused_every_time_ends_by_its_name_and_leaves_nothing(
    name: str, status: int, short_dir: Path, clis: Path
):
    with (
        model(short_dir, "--fault", "status", "--status", str(status)) as served,
        working(short_dir, name, clis, served, limits={"retry_timeout": "20s"}) as home,
    ):
        run = ended(home, add(home), 2 * RUN_SECONDS)
        reason = {429: "rate_limited", 503: "overloaded"}[status]
        assert (run["outcome"], run["reason"]) == ("failed", reason), output_of(home, run)
        until("nothing of it is left", lambda: nothing_is_left(home))
        limits = home.ask("list_limits")["limits"]
        assert [one["reason"] for one in limits] == (["rate_limited"] if status == 429 else [])
        tries = sum("fault" in line for line in served.requests())
        seconds = (_instant(run["ended_at"]) - _instant(run["started_at"])).total_seconds()
        ended_by_us = "waits" in (home.shown(run["id"])["warnings"] or {})
        how = (
            f"after {tries} tries, {seconds:.0f} s, {'ended by us' if ended_by_us else 'by itself'}"
        )
        print(f"\n| {name} | {status} every time | {end_of(run)} | {how} |")
