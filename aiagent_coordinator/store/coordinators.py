"""Coordinators: who they are and which of their lives is the current one."""

from __future__ import annotations

from sqlalchemy import bindparam, insert, select, update

from aiagent_coordinator.errors import StaleRunError
from aiagent_coordinator.store import tables
from aiagent_coordinator.store.unit import Unit

_coordinator = tables.coordinator
_ONE = select(_coordinator).where(_coordinator.c.id == bindparam("which")).with_for_update()
_CHANGE = update(_coordinator).where(_coordinator.c.id == bindparam("which"))


def seen(unit: Unit, coordinator_id: str, host_id: str | None, epoch: int) -> None:
    """Note that a coordinator called; a higher epoch is a new life that takes its runs over.

    Raises:
        StaleRunError: a later life of the same coordinator has already called.
    """
    known = unit.conn.execute(_ONE, {"which": coordinator_id}).mappings().first()
    if known is None:
        unit.conn.execute(
            insert(_coordinator).values(
                id=coordinator_id,
                host_id=host_id,
                epoch=epoch,
                first_seen=unit.now,
                last_seen=unit.now,
            )
        )
    elif epoch < known["epoch"]:
        raise StaleRunError(
            f"coordinator {coordinator_id} lives its life {known['epoch']}, not {epoch}",
            hint="two programs use one state directory; end the older one",
        )
    else:
        host_id = host_id or known["host_id"]
        facts = {"host_id": host_id, "epoch": epoch, "last_seen": unit.now}
        unit.conn.execute(_CHANGE, {"which": coordinator_id, **facts})
    if known is None or epoch > known["epoch"]:
        unit.emit(
            "coordinator.seen", actor=f"coordinator:{coordinator_id}", epoch=epoch, host=host_id
        )
