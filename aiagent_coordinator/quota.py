"""What may be used of a provider: lanes, limits and their resets, budgets, prices. Values and pure rules.

A lane is what a run works on: one model of one account of one provider. A limit closes lanes until it
resets. A budget is what the runs of something may use, in tokens or in US dollars.
"""

from __future__ import annotations

import fnmatch
import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal

#: The account of a provider of which no accounts are declared.
DEFAULT_ACCOUNT: Final = "default"
#: Reasons of ended runs that close their lane.
CLOSING: Final = frozenset({"rate_limited", "quota", "billing", "model_unavailable", "auth"})
#: A reset that is said to be later is nonsense.
FARTHEST: Final = timedelta(days=400)
#: Prices are for so many tokens.
PER_TOKENS: Final = 1_000_000


class Confidence(StrEnum):
    """How the time of a reset is known."""

    #: The provider said it.
    STATED = "stated"
    #: Worked out from what it said: a daily limit, a time of day without a zone.
    DERIVED = "derived"
    #: It said none: the wait is ours, and grows when it was too short.
    ASSUMED = "assumed"


@dataclass(frozen=True)
class Lane:
    """One model of one account of one provider; no model: the program's own default."""

    provider: str
    account: str = DEFAULT_ACCOUNT
    model: str | None = None

    @property
    def name(self) -> str:
        """As people read it: `claude/work`, `claude/work/opus`."""
        return "/".join((self.provider, self.account, *([self.model] if self.model else [])))


@dataclass(frozen=True)
class Limit:
    """What a provider said of a limit that was reached."""

    #: None: it named no time.
    resets_at: datetime | None = None
    confidence: Confidence = Confidence.ASSUMED
    #: `5h`, `daily`, `weekly`, `monthly`, `minute`; empty: not named.
    window: str = ""
    #: Whether it holds for the model alone, and not for the whole account.
    of_model: bool = False


@dataclass(frozen=True)
class WaitTerms:
    """How long lanes stay closed, in seconds."""

    #: Added to every wait by chance, at most: many do not start in one instant.
    jitter: float = 30.0
    #: Where no time was named: the first wait; each further one is twice as long, up to the longest.
    assumed: float = 300.0
    longest_assumed: float = 3600.0
    #: A person is asked about a wait that is longer.
    max_wait: float = 86_400.0


_WINDOWS: Final = (
    ("weekly", r"weekly|per week|7[- ]day|seven_day"),
    ("monthly", r"monthly|per month|premium requests?"),
    ("daily", r"daily|per[_ ]?day|perday|requests per day"),
    ("5h", r"\b5[- ]?h(?:our)?|five_hour|session limit"),
    ("minute", r"per[_ ]?minute|perminute"),
)
#: What is said of one model alone.
_OF_MODEL = re.compile(
    r"\b(?:opus|sonnet|haiku|fable)\s+(?:\w+\s+)?limit|on this model|for this model|PerModel|"
    r"limit reached for (?:gemini|gpt|claude)-|Pro Requests\b|seven_day_(?:opus|sonnet)",
    re.IGNORECASE,
)


def window_of(text: str) -> tuple[str, bool]:
    """Which window of time a limit is of, by some words, and whether it holds for a model alone."""
    named = next((name for name, words in _WINDOWS if re.search(words, text, re.IGNORECASE)), "")
    return named, _OF_MODEL.search(text) is not None


Unit = Literal["tokens", "usd"]


@dataclass(frozen=True)
class Amount:
    """So many tokens, or so many US dollars."""

    unit: Unit
    most: float

    @property
    def text(self) -> str:
        """As people read it."""
        return shown_amount(self.unit, self.most)


@dataclass(frozen=True)
class Budgets:
    """What may be used at one place: everywhere, in a project, or by an agent."""

    #: By one run, by all runs of one task, by all runs of a day of UTC, and by all runs ever.
    run: tuple[Amount, ...] = ()
    task: tuple[Amount, ...] = ()
    day: tuple[Amount, ...] = ()
    total: tuple[Amount, ...] = ()
    #: What becomes of the task of a run that is stopped by it: it fails, or waits.
    when_reached: Literal["stop", "park"] = "park"
    #: Part of it at which there is a warning.
    warn_at: float = 0.8

    @property
    def amounts(self) -> tuple[Amount, ...]:
        """All that is limited."""
        return (*self.run, *self.task, *self.day, *self.total)


@dataclass(frozen=True)
class ProviderTerms:
    """What the configuration says of one provider's accounts."""

    accounts: tuple[str, ...] = (DEFAULT_ACCOUNT,)
    #: Whether work moves to the next account when one is at its limit.
    switches: bool = False
    #: Names what is set there; another one means that somebody changed it.
    digest: str = ""
    #: Whether it says the tokens, and the money, that its runs use.
    tells_usage: bool = True
    tells_cost: bool = True


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens."""

    fresh: float = 0.0
    out: float = 0.0
    cache: float = 0.0


@dataclass(frozen=True)
class Terms:
    """All that the configuration says about what may be used."""

    waits: WaitTerms = WaitTerms()
    providers: Mapping[str, ProviderTerms] = field(default_factory=dict[str, ProviderTerms])
    #: Agent → lanes that are taken in this order where its own is closed; (provider, model).
    fallbacks: Mapping[str, tuple[tuple[str, str | None], ...]] = field(
        default_factory=dict[str, tuple[tuple[str, str | None], ...]]
    )
    budgets: Budgets = Budgets()
    project_budgets: Mapping[str, Budgets] = field(default_factory=dict[str, Budgets])
    agent_budgets: Mapping[str, Budgets] = field(default_factory=dict[str, Budgets])
    #: Model, or `provider/model`, with `*` and `?` → its price.
    prices: Mapping[str, Price] = field(default_factory=dict[str, Price])

    def lanes_of(self, agent_id: str, provider: str, model: str | None) -> tuple[Lane, ...]:
        """What the agent may work on, the first that is open first."""
        chain = ((provider, model), *self.fallbacks.get(agent_id, ()))
        return tuple(
            Lane(name, account, wanted)
            for name, wanted in chain
            for account in self._accounts(name)
        )

    def _accounts(self, provider: str) -> tuple[str, ...]:
        known = self.providers.get(provider, ProviderTerms())
        return known.accounts if known.switches else known.accounts[:1]

    @property
    def has_budgets(self) -> bool:
        """Whether anything is limited by a setting."""
        places = (self.budgets, *self.project_budgets.values(), *self.agent_budgets.values())
        return any(one.amounts for one in places)


def jitter(seed: str, most_seconds: float) -> float:
    """Seconds from 0 to the most, always the same for one seed."""
    return random.Random(seed).random() * most_seconds  # noqa: S311 - nothing is kept secret by it


def assumed_wait(failures: int, terms: WaitTerms) -> float:
    """How long a lane stays closed whose reset nobody named, after so many failures in a row (1 or more)."""
    return min(terms.assumed * 2.0 ** min(failures - 1, 20), terms.longest_assumed)


def resets(limit: Limit, now: datetime, failures: int, seed: str, terms: WaitTerms) -> datetime:
    """When a limit is over, with what is added to it.

    Args:
        limit: What the provider said.
        now: The instant.
        failures: How often in a row the lane was closed, this time too.
        seed: What the added part is made from.
        terms: How long things take.
    """
    wait = assumed_wait(failures, terms)
    at = limit.resets_at if limit.resets_at is not None else now + timedelta(seconds=wait)
    # a short wait is not made several times as long
    spread = min(terms.jitter, max((at - now).total_seconds(), 0.0) / 4)
    return max(at, now) + timedelta(seconds=jitter(seed, spread))


def believed(told: object, now: datetime) -> datetime | None:
    """When a limit resets by what a program printed; None for what is no time, or nonsense."""
    try:
        at = datetime.fromisoformat(str(told))
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return None if at > now + FARTHEST else at


def price_of(lane: Lane, prices: Mapping[str, Price]) -> Price | None:
    """The price that stands for a lane: that of the longest name that means it."""
    names = (lane.model or "", f"{lane.provider}/{lane.model or ''}")
    fitting = [
        pattern
        for pattern in prices
        if any(name and fnmatch.fnmatchcase(name, pattern) for name in names)
    ]
    return prices[max(fitting, key=len)] if fitting else None


def with_estimate(
    usage: dict[str, Any] | None, lane: Lane, prices: Mapping[str, Price]
) -> dict[str, Any] | None:
    """What a run used, with what it costs by the prices where its program did not say; see `spent`."""
    if not usage or usage.get("cost") is not None:
        return usage
    named: Mapping[str, Mapping[str, Any]] = usage.get("models") or {}
    if len(named) > 1:
        models = {name: _estimated(one, lane, name, prices) for name, one in named.items()}
        known = [one["estimate"] for one in models.values() if "estimate" in one]
        whole = {"estimate": round(sum(known), 6)} if known else {}
        return {**usage, "models": models, **whole}
    return _estimated(usage, lane, next(iter(named), usage.get("model")), prices)


def _estimated(
    usage: Mapping[str, Any], lane: Lane, model: str | None, prices: Mapping[str, Price]
) -> dict[str, Any]:
    """The same with its estimate, by the price of what was asked for, else of what the program says it was."""
    told = None if model is None else price_of(replace(lane, model=model), prices)
    price = (price_of(lane, prices) or told) if lane.model else (told or price_of(lane, prices))
    if price is None or usage.get("cost") is not None:
        return dict(usage)
    parts = ((price.fresh, "in"), (price.out, "out"), (price.cache, "cache"))
    cost = sum(each * int(usage.get(name) or 0) for each, name in parts) / PER_TOKENS
    return {**usage, "estimate": round(cost, 6)}


def spent(usage: Mapping[str, Any] | None, unit: Unit) -> float:
    """What a run used of a unit: all its tokens, or its money as told, else as estimated."""
    if not usage:
        return 0.0
    if unit == "tokens":
        return float(sum(int(usage.get(name) or 0) for name in ("in", "out", "cache")))
    cost = usage.get("cost")
    return float(cost if cost is not None else usage.get("estimate") or 0.0)


def midnight(now: datetime) -> datetime:
    """When the day of an instant began: budgets of a day count days of UTC."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def middle(numbers: Iterable[float]) -> float:
    """The median of some numbers; 0 of none."""
    ranked = sorted(numbers)
    return ranked[len(ranked) // 2] if ranked else 0.0


def shown_amount(unit: Unit, amount: float) -> str:
    """Tokens or money as people read it."""
    if unit == "usd":
        return f"${amount:.2f}"
    for size, letter in ((1_000_000, "M"), (1000, "k")):
        if amount >= size:
            return f"{amount / size:.4g}{letter} tokens"
    return f"{amount:.0f} tokens"
