"""What CLIs and servers say of a limit, in the words they really use, and when it is over by that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from aiagent_coordinator.providers.resets import limit_of
from aiagent_coordinator.quota import Confidence

#: A Sunday, 13:00 UTC.
NOW = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)


def after(**span: float) -> datetime:
    return NOW + timedelta(**span)


STATED = [
    # claude
    ("Claude AI usage limit reached|1795370400", datetime(2026, 11, 22, 18, 0, tzinfo=UTC)),
    ("Claude AI usage limit reached|1795370400000", datetime(2026, 11, 22, 18, 0, tzinfo=UTC)),
    (
        "Claude usage limit reached. Your limit will reset at 3pm (America/Santiago).",
        datetime(2026, 11, 22, 18, 0, tzinfo=UTC),
    ),
    (
        "You've hit your limit · resets 8pm (Europe/Berlin)",
        datetime(2026, 11, 22, 19, 0, tzinfo=UTC),
    ),
    ("resets 3pm (Europe/Berlin)", datetime(2026, 11, 22, 14, 0, tzinfo=UTC)),
    (
        "You've hit your limit · resets 1:30am (Asia/Dhaka)",
        datetime(2026, 11, 22, 19, 30, tzinfo=UTC),
    ),
    ("Your limit will reset at 1pm (Etc/GMT+5).", datetime(2026, 11, 22, 18, 0, tzinfo=UTC)),
    (
        "Weekly limit reached ∙ resets Nov 25, 6pm (Europe/Berlin)",
        datetime(2026, 11, 25, 17, 0, tzinfo=UTC),
    ),
    (
        "Weekly limit reached ∙ resets Nov 25 at 6:30pm (UTC)",
        datetime(2026, 11, 25, 18, 30, tzinfo=UTC),
    ),
    # codex
    (
        (
            "You've hit your usage limit. Upgrade to Pro (https://openai.com/chatgpt/pricing)"
            " or try again in 5 days 22 hours 11 minutes."
        ),
        after(days=5, hours=22, minutes=11),
    ),
    ("You've hit your usage limit. Try again in 3 hours 2 minutes.", after(hours=3, minutes=2)),
    ("try again in 5h 12m", after(hours=5, minutes=12)),
    ('{"error":{"type":"usage_limit_reached","resets_in_seconds":9000}}', after(seconds=9000)),
    ('{"resets_at":1795370400,"plan_type":"plus"}', datetime(2026, 11, 22, 18, 0, tzinfo=UTC)),
    ("Rate limit reached for gpt-5. Please try again in 1.242s.", after(seconds=1.242)),
    ("Please try again in 20ms.", after(milliseconds=20)),
    # gemini
    (
        "You have exhausted your capacity on this model. Your quota will reset after 12h34m16s.",
        after(hours=12, minutes=34, seconds=16),
    ),
    ("Please retry in 34.074824224s.", after(seconds=34.074824)),
    ("Suggested retry after 900s.", after(seconds=900)),
    ('"@type": "…RetryInfo", "retryDelay": "34s"', after(seconds=34)),
    (
        "Usage limit reached for gemini-3-flash-preview. Access resets at 10:57 PM GMT-3.",
        datetime(2026, 11, 23, 1, 57, tzinfo=UTC),
    ),
    # copilot
    ("Please try again in 2 hours. Please review our Terms of Service", after(hours=2)),
    ("Please try again in 58 hours.", after(hours=58)),
    ("Please try again in 15 hours 23 minutes.", after(hours=15, minutes=23)),
    ("Please wait 587 hours 33 minutes before trying again.", after(hours=587, minutes=33)),
    # headers, and units
    ("API rate limit reached, retry after 10", after(seconds=10)),
    ("retry after 10 minutes", after(minutes=10)),
    ("retry-after: 3600", after(hours=1)),
    ('"retry-after":"3600"', after(hours=1)),
    ("retry-after-ms: 273600000", after(days=3, hours=4)),
    ('{"retry-after-ms":"273600000"}', after(days=3, hours=4)),
    ('{"retry_after_seconds": 12.5}', after(seconds=12.5)),
    ("Retry-After: Sun, 22 Nov 2026 18:00:00 GMT", datetime(2026, 11, 22, 18, 0, tzinfo=UTC)),
    ("anthropic-ratelimit-unified-reset: 1795370400", datetime(2026, 11, 22, 18, 0, tzinfo=UTC)),
    (
        "anthropic-ratelimit-tokens-reset: 2026-11-22T18:00:00Z",
        datetime(2026, 11, 22, 18, 0, tzinfo=UTC),
    ),
    ("resets in 3 days 4 h", after(days=3, hours=4)),
    ("resets in 1 week, 2 days and 3 mins", after(days=9, minutes=3)),
    ("limit resets at 2026-11-24T09:30:00+09:00", datetime(2026, 11, 24, 0, 30, tzinfo=UTC)),
]


@pytest.mark.parametrize(("text", "at"), STATED)
def test_a_time_that_is_said_is_the_time(text: str, at: datetime):
    limit = limit_of([text], NOW)
    assert limit.resets_at is not None, text
    assert abs(limit.resets_at - at) < timedelta(milliseconds=1), limit
    assert limit.confidence is Confidence.STATED


DERIVED = [
    # a time of day without a zone is the machine's
    ("You've hit your session limit. Your limit will reset at 3pm", after(hours=1)),
    (
        (
            "You've hit your usage limit. Upgrade to Plus to continue using Codex"
            " (https://chatgpt.com/explore/plus), or try again at Dec 5th, 2026 8:19 PM."
        ),
        datetime(2026, 12, 5, 19, 20, tzinfo=UTC),
    ),
    # the seconds are left out: it is over with the minute
    ("try again at 11:52 PM.", datetime(2026, 11, 22, 22, 53, tzinfo=UTC)),
    # a day of Google's ends at midnight of California
    (
        (
            "Quota exceeded for quota metric 'Gemini 2.5 Pro Requests' and limit 'Gemini 2.5 Pro"
            " Requests per day per user per tier'"
        ),
        datetime(2026, 11, 23, 8, 0, tzinfo=UTC),
    ),
    (
        "[API Error: You have exhausted your daily quota on this model.]",
        datetime(2026, 11, 23, 8, 0, tzinfo=UTC),
    ),
    ("limit: requests per minute", after(minutes=1)),
    # what has just passed is old words or a clock that is wrong
    ("Claude AI usage limit reached|1762952400", after(minutes=5)),
    ("Your limit will reset at 1:30pm", after(minutes=5)),
]


@pytest.mark.parametrize(("text", "at"), DERIVED)
def test_a_time_that_has_to_be_worked_out_is_marked_so(text: str, at: datetime):
    limit = limit_of([text], NOW, ZoneInfo("Europe/Berlin"))
    assert (limit.resets_at, limit.confidence) == (at, Confidence.DERIVED), text


@pytest.mark.parametrize(
    "text",
    [
        (
            "API Error: Request rejected (429) · This request would exceed your account's rate limit."
            " Please try again later."
        ),
        "exceeded retry limit, last status: 429 Too Many Requests",
        "Quota exceeded. Check your plan and billing details.",
        "You've hit your usage limit, or wait for limits to reset (every 5h and every week.).",
        "Credit balance is too low",
        "Resource has been exhausted (e.g. check quota).",
        "try again at 10 de jul. de 2026",
        "reset after 99999999999999999999 days",
        "Claude AI usage limit reached|1999999999999999",
        "again at 77:99",
    ],
)
def test_where_no_time_is_said_none_is_made_up(text: str):
    limit = limit_of([text], NOW)
    assert (limit.resets_at, limit.confidence) == (None, Confidence.ASSUMED), text


@pytest.mark.parametrize(
    ("text", "window", "of_model"),
    [
        ("Weekly limit reached ∙ resets Nov 25", "weekly", False),
        ("You've hit your Opus limit · resets 8pm", "", True),
        ("Opus weekly limit reached", "weekly", True),
        ("5-hour limit reached ∙ resets 3pm", "5h", False),
        ("You have exceeded your premium request allowance.", "monthly", False),
        ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "daily", True),
        ("Please try again in 2 hours.", "", False),
    ],
)
def test_the_window_and_the_model_of_a_limit_are_heard(text: str, window: str, of_model: bool):
    limit = limit_of([text], NOW)
    assert (limit.window, limit.of_model) == (window, of_model)


def test_what_comes_with_an_error_gives_the_time_that_its_words_lack():
    words = "API Error: Request rejected (429)"
    assert limit_of([words, '{"retry-after":"60"}'], NOW).resets_at == after(minutes=1)
    assert limit_of(["resets in 2 h", "retry-after: 60"], NOW).resets_at == after(hours=2)
