"""The ledger of limits: which lanes are closed, until when, and how sure that is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final, cast

from sqlalchemy import RowMapping, and_, bindparam, delete, insert, or_, select, update

from aiagent_coordinator.clock import iso
from aiagent_coordinator.quota import (
    Confidence,
    Lane,
    Limit,
    WaitTerms,
    believed,
    jitter,
    resets,
    window_of,
)
from aiagent_coordinator.runs import Run
from aiagent_coordinator.store.columns import Instant
from aiagent_coordinator.store.quota_tables import limit_window
from aiagent_coordinator.store.unit import Unit

_window = limit_window
_KEY: Final = ("provider", "account", "model", "period")
_BY_KEY = and_(*(_window.c[name] == bindparam(f"key_{name}") for name in _KEY))
_ONE = select(_window).where(_BY_KEY).with_for_update()
_INSERT = insert(_window)
_CHANGE = update(_window).where(_BY_KEY)
_NOW = bindparam("now", type_=Instant)
_CLOSED = select(_window).where(
    _window.c.status == "rejected", or_(_window.c.until.is_(None), _window.c.until > _NOW)
)
#: The period of what has none of its provider's: it is over when somebody did something.
_OF_REASON: Final = {"auth": "login", "billing": "credit", "model_unavailable": "model"}
#: Over when somebody did something, and not by itself.
_NEEDS_SOMEBODY: Final = frozenset({"auth"})
_TEXT_CHARS: Final = 500

_WORDS: Final = {
    "auth": "needs login",
    "billing": "no credit",
    "model_unavailable": "the model is not to be had",
    "rate_limited": "rate limit",
    "quota": "limit",
}


@dataclass(frozen=True)
class Window:
    """What is known of one limit of one lane."""

    provider: str
    account: str
    #: Empty: all models of the account.
    model: str
    #: `weekly`, `5h`, …; `login`, `credit` and `model` for what is no limit of time; may be empty.
    period: str
    #: `rejected`, `warning` or `allowed`.
    status: str
    reason: str | None
    #: 0 to 1.
    used: float | None
    resets_at: datetime | None
    #: When something starts there again; None: when somebody says so.
    until: datetime | None
    confidence: Confidence
    text: str | None
    run_id: str | None
    failures: int
    accepted_at: datetime | None
    seen_at: datetime

    @property
    def lane(self) -> Lane:
        """What it closes; without a model every model of the account."""
        return Lane(self.provider, self.account, self.model or None)

    @property
    def name(self) -> str:
        """What it is, in words."""
        words = _WORDS.get(self.reason or "", "limit")
        is_named = self.reason in {"quota", "rate_limited", None} and self.period
        return f"{self.period} {words}" if is_named else words

    @property
    def why(self) -> str:
        """Why nothing starts there, in words."""
        if self.until is None:
            return f"parked: {self.lane.name} {self.name}"
        until = iso(self.until.replace(microsecond=0)) or ""
        how = f"{self.lane.name}: {self.name}, {self.confidence.value}"
        return f"parked until {until.replace('.000000', '')} ({how})"

    def is_closed(self, now: datetime) -> bool:
        """Whether nothing starts there now."""
        return self.status == "rejected" and (self.until is None or self.until > now)


_FIELDS = frozenset(field.name for field in fields(Window))


def _window_of(row: RowMapping | Mapping[str, Any]) -> Window:
    known: dict[str, Any] = {name: row[name] for name in _FIELDS}
    known["confidence"] = Confidence(row["confidence"])
    return Window(**known)


def windows(unit: Unit) -> list[Window]:
    """All that is known, by provider, account and model."""
    query = select(_window).order_by(*(_window.c[name] for name in _KEY))
    return [_window_of(row) for row in unit.conn.execute(query).mappings()]


def closed(unit: Unit) -> list[Window]:
    """What closes lanes now; what lasts longest first."""
    found = [_window_of(row) for row in unit.conn.execute(_CLOSED, {"now": unit.now}).mappings()]
    far = unit.now + timedelta(days=36_500)
    return sorted(found, key=lambda one: (one.until or far, one.period), reverse=True)


def closing(shut: Iterable[Window], lane: Lane) -> Window | None:
    """What closes a lane, of those that close any; what lasts longest."""
    return next(
        (
            one
            for one in shut
            if (one.provider, one.account) == (lane.provider, lane.account)
            and one.model in {"", lane.model or ""}
        ),
        None,
    )


def opens_next(unit: Unit) -> datetime | None:
    """When the first lane opens by itself."""
    return min((one.until for one in closed(unit) if one.until is not None), default=None)


def close(unit: Unit, run: Run, limit: Limit | None, text: str, terms: WaitTerms) -> Window | None:
    """Close the lane of a run that a limit ended, or the whole account where it is the account's.

    Args:
        unit: The unit of work.
        run: The run; its `reason` says what kind of limit it is.
        limit: What was said of it; None: nothing.
        text: The words.
        terms: How long things take.
    """
    reason = run.reason or "quota"
    limit = limit or Limit()
    of_model = limit.of_model or reason == "model_unavailable"
    period = _OF_REASON.get(reason, limit.window)
    key = {
        "provider": run.provider,
        "account": run.account,
        "model": (run.model or "") if of_model else "",
        "period": period,
    }
    known = _find(unit, key)
    is_news = known is None or not known.is_closed(unit.now)
    failures = (0 if known is None else known.failures) + is_news
    until: datetime | None = None
    if reason not in _NEEDS_SOMEBODY:
        until = resets(limit, unit.now, failures, run.id, terms)
    if known is not None and not is_news and limit.resets_at is None:
        # another run under way was refused as well: that says nothing new
        return known
    return _keep(
        unit,
        key,
        status="rejected",
        reason=reason,
        used=None if known is None else known.used,
        resets_at=limit.resets_at,
        until=until,
        confidence=limit.confidence,
        text=text[:_TEXT_CHARS],
        run_id=run.id,
        failures=failures if limit.resets_at is None else 0,
        accepted_at=None if is_news or known is None else known.accepted_at,
        actor=f"coordinator:{run.coordinator_id}",
    )


def take_told(unit: Unit, run: Run, told: Iterable[Mapping[str, Any]], terms: WaitTerms) -> None:
    """Take what a running program says of its limits: `window`, `status`, `used`, `resets_at`.

    One that is reached closes its lane although the program still runs: it may wait by itself, others
    are not to join it.
    """
    for one in told:
        status = str(one.get("status") or "")
        if status not in {"allowed", "warning", "rejected"}:
            continue
        said = str(one.get("window") or "")[:64]
        window, of_model = window_of(said)
        resets_at = believed(one.get("resets_at"), unit.now)
        key = {
            "provider": run.provider,
            "account": run.account,
            "model": (run.model or "") if of_model else "",
            "period": window or said,
        }
        known = _find(unit, key)
        closes = status == "rejected" and resets_at is not None and resets_at > unit.now
        if known is not None and known.is_closed(unit.now) and not closes:
            continue  # an older word, or of a run that began before
        if status == "rejected" and not closes:
            continue  # the end of the run tells how long
        until = None
        if closes and resets_at is not None:
            until = resets_at + timedelta(seconds=jitter(run.id, terms.jitter))
            if known is not None and known.until == until:
                continue
        used = one.get("used")
        _keep(
            unit,
            key,
            status=status,
            reason="quota" if closes else None,
            used=float(used) if isinstance(used, int | float) else None,
            resets_at=resets_at,
            until=until,
            confidence=Confidence.STATED,
            text=None,
            run_id=run.id,
            failures=0,
            accepted_at=None,
            actor=f"coordinator:{run.coordinator_id}",
        )


def worked(unit: Unit, run: Run) -> None:
    """A run did its work: what was assumed of its lane before it began is over."""
    where = and_(
        _window.c.provider == run.provider,
        _window.c.account == run.account,
        _window.c.model.in_(["", run.model or ""]),
        _window.c.status == "rejected",
        _window.c.seen_at < run.created_at,
    )
    for row in unit.conn.execute(select(_window).where(where)).mappings().all():
        one = _window_of(row)
        if one.confidence is Confidence.ASSUMED:
            _open(unit, one, actor=f"coordinator:{run.coordinator_id}")


def hold_until(
    unit: Unit, lane: Lane, until: datetime | None, *, actor: str, text: str = ""
) -> Window:
    """Close a lane as a person says, or move when it opens; what was known of it is replaced.

    Args:
        unit: The unit of work.
        lane: The lane; without a model the whole account.
        until: When it opens; None: when somebody says so.
        actor: Who says so.
        text: Why.
    """
    found = [one for one in closed(unit) if one.lane == lane]
    for one in found[1:]:
        _open(unit, one, actor=actor)
    key = {
        "provider": lane.provider,
        "account": lane.account,
        "model": lane.model or "",
        "period": found[0].period if found else "",
    }
    return _keep(
        unit,
        key,
        status="rejected",
        reason=(found[0].reason if found else None) or "quota",
        used=None,
        resets_at=until,
        until=until,
        confidence=Confidence.STATED,
        text=text or None,
        run_id=None,
        failures=0,
        accepted_at=unit.now,
        actor=actor,
    )


def clear(
    unit: Unit,
    *,
    provider: str,
    account: str | None = None,
    model: str | None = None,
    reasons: Collection[str] | None = None,
    actor: str,
) -> list[Window]:
    """Open lanes: something may start there again.

    Args:
        unit: The unit of work.
        provider: Whose.
        account: Only of this account.
        model: Only what is closed for this model alone.
        reasons: Only what was closed because of these.
        actor: Who says so.

    Returns:
        What was closed.
    """
    opened = [
        one
        for one in closed(unit)
        if one.provider == provider
        and (account is None or one.account == account)
        and (model is None or one.model == model)
        and (reasons is None or one.reason in reasons)
    ]
    for one in opened:
        _open(unit, one, actor=actor)
    return opened


def accept(unit: Unit, lane: Lane) -> None:
    """A person lets a long wait be: nobody asks again."""
    for one in closed(unit):
        if one.lane == lane:
            unit.conn.execute(_CHANGE, {**_bound(_key_of(one)), "accepted_at": unit.now})


def forget(unit: Unit, before: datetime) -> None:
    """Drop what was said so long ago and is over."""
    unit.conn.execute(
        delete(_window).where(
            _window.c.seen_at < before,
            or_(_window.c.status != "rejected", _window.c.until < before),
        )
    )


def _open(unit: Unit, one: Window, *, actor: str) -> None:
    opened = {"status": "allowed", "until": None, "failures": 0, "accepted_at": None}
    unit.conn.execute(_CHANGE, {**_bound(_key_of(one)), **opened})
    _emit(unit, "quota.opened", _key_of(one), actor=actor, cause=one.reason)


def _key_of(one: Window) -> dict[str, str]:
    return {name: cast("str", getattr(one, name)) for name in _KEY}


def _bound(key: Mapping[str, str]) -> dict[str, Any]:
    return {f"key_{name}": value for name, value in key.items()}


def _find(unit: Unit, key: Mapping[str, str]) -> Window | None:
    row = unit.conn.execute(_ONE, _bound(key)).mappings().first()
    return None if row is None else _window_of(row)


def _keep(unit: Unit, key: dict[str, str], *, actor: str, **columns: Any) -> Window:  # noqa: ANN401 - columns
    row: dict[str, Any] = {**columns, "seen_at": unit.now}
    if _find(unit, key) is None:
        unit.conn.execute(_INSERT, {**key, **row})
    else:
        unit.conn.execute(_CHANGE, {**_bound(key), **row})
    kept = _find(unit, key)
    assert kept is not None  # noqa: S101 - written above
    if kept.status == "rejected":
        told = {"cause": kept.reason, "until": iso(kept.until), "confidence": kept.confidence}
        _emit(unit, "quota.closed", key, actor=actor, **told)
    return kept


def _emit(unit: Unit, action: str, key: Mapping[str, str], *, actor: str, **data: object) -> None:
    """Say it; the run or person that it came from is the actor."""
    lane = {name: key[name] for name in ("provider", "account", "model")}
    unit.emit(action, actor=actor, **lane, window=key["period"], **data)  # type: ignore[arg-type]
