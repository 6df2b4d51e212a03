"""Settings of what may be used: accounts, waits, budgets, prices; and what they mean to the board."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import PlainValidator, SecretStr

from aiagent_coordinator.config import values
from aiagent_coordinator.config.fields import (
    Duration,
    FilePath,
    Model,
    PositiveDuration,
    Secret,
    setting,
)
from aiagent_coordinator.quota import (
    DEFAULT_ACCOUNT,
    Amount,
    Budgets,
    Lane,
    Price,
    ProviderTerms,
    Terms,
    WaitTerms,
    price_of,
)

if TYPE_CHECKING:
    from aiagent_coordinator.config.models import AgentSettings, ProviderSettings, Settings
    from aiagent_coordinator.config.source import KeyPath

_AMOUNT = re.compile(r"(\$)?\s*(\d+(?:\.\d+)?)\s*(k|m|g|b)?\s*(\$|usd|tokens?)?\Z", re.IGNORECASE)
_SIZES = {"k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}
_MOST = 1e15
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
#: How settings at each place are called.
KINDS = ("run", "task", "day", "total")


def parse_amount(value: object) -> Amount:
    """Read `50k`, `2M`, `$2`, `0.5 usd`, `1200`.

    Raises:
        BadValueError: it is none, or not more than 0.
    """
    said = f"{value}" if isinstance(value, int | float) and not isinstance(value, bool) else value
    match = _AMOUNT.match(said.strip()) if isinstance(said, str) else None
    if match is None or not said:
        raise values.BadValueError(
            f"expected tokens like 50k or 2M, or money like $2, got {values.describe(value)}"
        )
    word = (match[4] or "").lower()
    is_money = bool(match[1]) or word in {"$", "usd"}
    if match[1] and word.startswith("token"):
        raise values.BadValueError(f"{value} is money and tokens; give one")
    most = float(match[2]) * _SIZES.get((match[3] or "").lower(), 1.0)
    if not 0 < most <= _MOST:
        raise values.BadValueError("must be more than 0")
    return Amount("usd" if is_money else "tokens", most)


def _amounts(value: object) -> tuple[Amount, ...]:
    listed = cast("list[object]", value) if isinstance(value, list) else [value]
    found = tuple(parse_amount(one) for one in listed)
    if len({one.unit for one in found}) < len(found):
        raise values.BadValueError("gives tokens or money twice; the smaller one is enough")
    return found


#: Tokens or money, or a list of both.
Amounts = Annotated[tuple[Amount, ...], PlainValidator(_amounts)]


class BudgetSettings(Model):
    """What runs may use, in tokens (`50k`, `2M`) or money (`$2`), or a list of both."""

    run: Amounts = setting((), "One run.", reload="live")
    task: Amounts = setting((), "All runs of one task together.", reload="live")
    day: Amounts = setting((), "All runs here within a day of UTC together.", reload="live")
    total: Amounts = setting((), "All runs here together, ever.", reload="live")
    when_reached: Literal["stop", "park"] = setting(
        "park",
        "A run that reaches one is stopped. With `stop` its task fails; with `park` it waits: for the "
        "next day, or for a person's word where no day helps.",
        reload="live",
    )
    warn_percent: float = setting(
        80.0, "Part of a budget at which there is a warning.", gt=0, le=100, reload="live"
    )

    def budgets(self) -> Budgets:
        """The same as the value that decisions are made with."""
        return Budgets(
            self.run, self.task, self.day, self.total, self.when_reached, self.warn_percent / 100
        )


class PriceSettings(Model):
    """US dollars for a million tokens."""

    input: float = setting(0.0, "Read, and not from a cache.", ge=0, reload="live")
    output: float = setting(0.0, "Written.", ge=0, reload="live")
    cache: float = setting(0.0, "Read from the provider's cache.", ge=0, reload="live")


class AccountSettings(Model):
    """One account of a provider."""

    env: dict[str, Secret] = setting(
        {},
        "Variables of the program that stand for the account, as a key or a folder of a login. "
        "Variables of the other accounts never reach it. `${VAR}` is expanded.",
    )
    home: FilePath | None = setting(
        None, "The home folder of its program, with a login of its own; the user's without."
    )


class QuotaSettings(Model):
    """What happens when a provider's limit is reached."""

    max_wait: PositiveDuration = setting(
        86_400.0,
        "A person is asked about a wait that is longer; until the answer the account stays parked.",
        reload="live",
    )
    jitter: Duration = setting(
        30.0, "Added to each wait by chance, at most; never more than a quarter.", reload="live"
    )
    assumed_wait: PositiveDuration = setting(
        300.0,
        "The first wait where a provider names no time; each further one is twice as long.",
        reload="live",
    )
    longest_assumed_wait: PositiveDuration = setting(
        3600.0, "No such wait is longer.", reload="live"
    )

    def terms(self) -> WaitTerms:
        """The same as the value that decisions are made with."""
        return WaitTerms(self.jitter, self.assumed_wait, self.longest_assumed_wait, self.max_wait)


#: Whether a provider tells the tokens, and the money, that its runs use.
Tells = Callable[[str], tuple[bool, bool]]


def terms_of(settings: Settings, tells: Tells) -> Terms:
    """What the settings mean to the board."""
    names = {*settings.ai_providers}
    for agent in settings.agents.values():
        names |= {agent.provider, *(lane[0] for lane in _fallback(agent))}
    return Terms(
        waits=settings.quota.terms(),
        providers={
            name: _provider(settings.ai_providers.get(name), tells(name)) for name in sorted(names)
        },
        fallbacks={
            agent_id: _fallback(agent)
            for agent_id, agent in settings.agents.items()
            if agent.fallback
        },
        budgets=settings.budgets.budgets(),
        project_budgets={
            project.id: project.budgets.budgets()
            for project in settings.projects
            if project.budgets.budgets().amounts
        },
        agent_budgets={
            agent_id: agent.budgets.budgets()
            for agent_id, agent in settings.agents.items()
            if agent.budgets.budgets().amounts
        },
        prices={
            name: Price(price.input, price.output, price.cache)
            for name, price in settings.prices.items()
        },
    )


def _fallback(agent: AgentSettings) -> tuple[tuple[str, str | None], ...]:
    parts = (one.partition("/") for one in agent.fallback)
    return tuple((provider, model or None) for provider, _, model in parts)


def _provider(said: ProviderSettings | None, told: tuple[bool, bool]) -> ProviderTerms:
    usage, cost = told
    if said is None:
        return ProviderTerms(tells_usage=usage, tells_cost=cost)
    accounts = accounts_of(said) or (DEFAULT_ACCOUNT,)
    switches = said.switch_accounts == "on_limit"
    return ProviderTerms(accounts, switches, _digest(said), usage, cost)


def accounts_of(said: ProviderSettings) -> tuple[str, ...]:
    """The names of a provider's accounts, the first that is used first; empty: none are declared."""
    return said.accounts_order or tuple(said.accounts)


def _digest(said: ProviderSettings) -> str:
    """A name for what is set; of secrets only whether they are the same as before."""

    def plain(value: object) -> str:
        return value.get_secret_value() if isinstance(value, SecretStr) else str(value)

    text = json.dumps(said.model_dump(), default=plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def contradictions(
    providers: Mapping[str, ProviderSettings],
    agents: Mapping[str, AgentSettings],
    known: Iterable[str] | None,
) -> Iterator[tuple[KeyPath, str]]:
    """What cannot be meant: (key, reason)."""
    for name, provider in providers.items():
        for key, reason in (*_in_accounts(provider), *_in_order(provider)):
            yield ("ai_providers", name, *key), reason
    if known is None:
        return
    names = {*known, *providers}
    for agent_id, agent in agents.items():
        for number, (provider_name, _) in enumerate(_fallback(agent)):
            if provider_name not in names:
                reason = (
                    f"there is no provider {provider_name!r}; write provider, or provider/model"
                )
                yield ("agents", agent_id, "fallback", number), reason


def _in_accounts(provider: ProviderSettings) -> Iterator[tuple[KeyPath, str]]:
    for account, said in provider.accounts.items():
        if not _ACCOUNT.match(account):
            yield ("accounts", account), "is no name: lower-case letters, digits, `-`, `_`"
        for variable in said.env:
            if not _VARIABLE.match(variable):
                yield ("accounts", account, "env", variable), "is no name of a variable"


def _in_order(provider: ProviderSettings) -> Iterator[tuple[KeyPath, str]]:
    order = provider.accounts_order
    if order and (set(order) != set(provider.accounts) or len(set(order)) < len(order)):
        yield ("accounts_order",), "must name each of the accounts once, and nothing else"
    if provider.switch_accounts == "on_limit" and len(provider.accounts) < 2:
        yield ("switch_accounts",), "on_limit needs at least two accounts"


def inert(terms: Terms, pairs: Iterable[tuple[str, str, str | None, str]]) -> list[tuple[str, str]]:
    """Budgets that nobody could watch: (key, reason). Pure.

    Args:
        terms: What the settings mean.
        pairs: Who works where: (agent, provider, model, project).
    """
    found: dict[str, str] = {}
    for agent_id, provider, model, project_id in pairs:
        places = (
            ("budgets", terms.budgets),
            (f"projects.{project_id}.budgets", terms.project_budgets.get(project_id)),
            (f"agents.{agent_id}.budgets", terms.agent_budgets.get(agent_id)),
        )
        for lane in terms.lanes_of(agent_id, provider, model):
            for key, budgets in places:
                for kind in KINDS if budgets else ():
                    for amount in cast("tuple[Amount, ...]", getattr(budgets, kind)):
                        reason = unwatched(amount, lane, terms)
                        if reason:
                            found.setdefault(f"{key}.{kind}", f"{reason} (agent {agent_id})")
    return sorted(found.items())


def unwatched(amount: Amount, lane: Lane, terms: Terms) -> str | None:
    """Why a budget means nothing for what runs on a lane; None: it does."""
    told = terms.providers.get(lane.provider, ProviderTerms())
    if not told.tells_usage:
        return (
            f"{amount.text} would never be reached: provider {lane.provider} does not tell what"
            " its runs use"
        )
    if amount.unit == "usd" and not told.tells_cost and price_of(lane, terms.prices) is None:
        model = lane.model or "its default model"
        return (
            f"{amount.text} would never be reached: provider {lane.provider} tells no money, and"
            f" `prices` has none for {model}"
        )
    return None
