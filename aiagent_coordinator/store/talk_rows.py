"""From rows to conversations, what is said there, and delegations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiagent_coordinator.chats import Conversation, Delegation, DelegationState, Spoken, Standing

if TYPE_CHECKING:
    from sqlalchemy import RowMapping


def conversation_of(row: RowMapping) -> Conversation:
    """A row of `conversation`."""
    columns: dict[str, Any] = {**row, "state": Standing(row["state"])}
    return Conversation(**columns)


def spoken_of(row: RowMapping) -> Spoken:
    """A row of `conversation_message`."""
    columns: dict[str, Any] = {**row}
    return Spoken(**columns)


def delegation_of(row: RowMapping) -> Delegation:
    """A row of `delegation`."""
    columns: dict[str, Any] = {**row, "state": DelegationState(row["state"])}
    return Delegation(**columns)
