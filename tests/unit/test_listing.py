"""What the server said should run is asked for anew unless it is known that nothing is to be done."""

from __future__ import annotations

from typing import Any

import pytest

from aiagent_coordinator.coordinator.listing import KNOWN_SECONDS, Listing
from aiagent_coordinator.errors import ProtocolError

IDLE = {"agent_id": "a", "project_id": "p", "action": "hold", "provider": "rehearsal"}


def answer(*actions: Any, etag: object = "x.1") -> dict[str, Any]:
    return {"version": 4, "etag": etag, "actions": list(actions)}


def test_that_nothing_is_to_be_done_is_not_told_twice():
    listing = Listing().after(answer(IDLE), 10.0)
    assert listing.known(11.0) == {"known": "x.1"}
    again = listing.after({"version": 9, "etag": "x.1"}, 11.0)
    assert (again.version, again.actions) == (9, listing.actions)
    # however often: after a while the whole is wanted once more
    assert again.known(10.0 + KNOWN_SECONDS) == {}


@pytest.mark.parametrize(
    "said",
    [
        answer(IDLE, IDLE | {"action": "start"}),
        answer(IDLE | {"action": "stop"}),
        answer(IDLE | {"action": "fly"}),
        answer(IDLE, {}),
        answer(None),
        answer(IDLE, etag=None),
        answer(IDLE, etag=7),
    ],
)
def test_what_leads_to_something_is_told_anew(said: dict[str, Any]):
    assert Listing().after(said, 0.0).known(1.0) == {}


@pytest.mark.parametrize(
    "said", [{"etag": "x.2"}, {"etag": None}, {}, {"etag": "x.1", "actions": None}]
)
def test_an_answer_without_actions_must_name_those_that_are_known(said: dict[str, Any]):
    listing = Listing().after(answer(IDLE), 0.0)
    with pytest.raises(ProtocolError):
        listing.after(said, 1.0)
    # it was asked for as a whole
    with pytest.raises(ProtocolError):
        listing.after({"etag": "x.1"}, KNOWN_SECONDS)
