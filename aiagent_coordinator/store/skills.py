"""Skills as they are kept: by their content, under one name each, and who is given them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import RowMapping, bindparam, delete, func, insert, select, update

from aiagent_coordinator import ids
from aiagent_coordinator.errors import (
    ConfigError,
    ConflictError,
    LimitError,
    NotFoundError,
)
from aiagent_coordinator.skills import MAX_SKILLS, Packed, Skill
from aiagent_coordinator.store import projects, tables
from aiagent_coordinator.store.find import find_id
from aiagent_coordinator.store.unit import Unit

_skill = tables.skill
_archive = tables.skill_archive
_given = tables.agent_skill

# asked at every claim: built once
_OF_AGENT = (
    select(_skill)
    .join(_given, _given.c.skill_id == _skill.c.id)
    .where(_given.c.agent_id == bindparam("agent"))
    .order_by(_skill.c.directory_name)
)
#: Of all skills together: how many, and the bytes of their archives.
MAX_KEPT: Final = 500
MAX_KEPT_BYTES: Final = 256 * 1024 * 1024
#: Of those that one agent registered and nobody has assigned.
MAX_REGISTERED: Final = 20
CONFIGURATION: Final = "configuration"
PERSON: Final = "person"


def keep(unit: Unit, new: Packed, *, added_by: str, replaces: bool = False) -> Skill:
    """Keep a skill under its name; the same content again changes nothing.

    Args:
        unit: The unit of work.
        new: The skill.
        added_by: `person`, `configuration`, or `agent:<id>`.
        replaces: Whether another content under this name is put in its place.

    Raises:
        ConflictError: the name is taken.
        LimitError: too much is kept.
    """
    known = _named(unit, new.directory_name)
    if known is None:
        return _add(unit, new, added_by)
    is_same = (known.sha256, known.name, known.description) == (
        new.sha256,
        new.name,
        new.description,
    )
    if is_same:
        return known
    if not replaces:
        raise ConflictError(
            f"there is another skill {new.directory_name}",
            hint="choose another name, or replace it",
            skill_id=known.id,
        )
    _put_archive(unit, new)
    facts = _columns(new) | {"updated_at": unit.now, "added_by": added_by}
    unit.conn.execute(update(_skill).where(_skill.c.id == known.id).values(facts))
    _sweep(unit)
    _emit(unit, known, "skill.changed", added_by, sha256=new.sha256)
    return get(unit, known.id)


def register(unit: Unit, new: Packed, agent_id: str) -> Skill:
    """Keep what an agent made. It changes only what it registered itself, and nobody is given yet.

    Raises:
        ConflictError: the name is somebody else's, or the skill is assigned.
        LimitError: the agent has too many that nobody has looked at.
    """
    added_by = f"agent:{agent_id}"
    known = _named(unit, new.directory_name)
    if known is None:
        mine = select(func.count()).select_from(_skill).where(_skill.c.added_by == added_by)
        waiting = mine.where(_skill.c.id.not_in(select(_given.c.skill_id)))
        if (unit.conn.scalar(waiting) or 0) >= MAX_REGISTERED:
            raise LimitError(f"{MAX_REGISTERED} skills of yours wait for a person's word")
    is_own = known is not None and known.added_by == added_by and not agents_of(unit, known.id)
    return keep(unit, new, added_by=added_by, replaces=is_own)


def get(unit: Unit, skill_id: str) -> Skill:
    """One skill.

    Raises:
        NotFoundError: there is none.
    """
    row = unit.conn.execute(select(_skill).where(_skill.c.id == skill_id)).mappings().first()
    if row is None:
        raise NotFoundError(f"there is no skill {skill_id}", skill_id=skill_id)
    return _skill_of(row)


def find(unit: Unit, text: str) -> Skill:
    """The skill that a person means: by its name, its id, or the beginning of that.

    Raises:
        NotFoundError: none is meant.
        ConflictError: several are.
    """
    return _named(unit, text) or get(unit, find_id(unit, _skill, "skl", text))


def list_skills(unit: Unit) -> list[Skill]:
    """All skills, by name."""
    rows = unit.conn.execute(select(_skill).order_by(_skill.c.directory_name)).mappings()
    return [_skill_of(row) for row in rows]


def of_agent(unit: Unit, agent_id: str) -> list[Skill]:
    """What an agent is given, by name."""
    return [_skill_of(row) for row in unit.conn.execute(_OF_AGENT, {"agent": agent_id}).mappings()]


def agents_of(unit: Unit, skill_id: str) -> list[str]:
    """Who is given a skill: agent ids in order."""
    query = select(_given.c.agent_id).where(_given.c.skill_id == skill_id)
    return [str(one) for one in unit.conn.scalars(query.order_by(_given.c.agent_id))]


def archive(unit: Unit, sha256: str) -> bytes:
    """The archive with this digest.

    Raises:
        NotFoundError: no skill has this content, or none has it any more.
    """
    found = unit.conn.scalar(select(_archive.c.content).where(_archive.c.sha256 == sha256))
    if found is None:
        raise NotFoundError(f"no skill has the content {sha256[:64]}")
    return bytes(found)


def remove(unit: Unit, skill: Skill, *, actor: str) -> None:
    """Forget a skill, and that anybody is given it; a run that has it keeps it.

    Raises:
        ConflictError: the configuration gives it to somebody.
    """
    declared = select(_given.c.agent_id).where(
        _given.c.skill_id == skill.id, _given.c.origin == "file"
    )
    first = unit.conn.scalar(declared.limit(1))
    if first is not None:
        raise ConflictError(
            f"the configuration gives {skill.directory_name} to agent {first}",
            hint="take it out of the skills there",
        )
    unit.conn.execute(delete(_given).where(_given.c.skill_id == skill.id))
    unit.conn.execute(delete(_skill).where(_skill.c.id == skill.id))
    _sweep(unit)
    _emit(unit, skill, "skill.removed", actor)


def assign(unit: Unit, skill: Skill, agent_id: str, *, actor: str, origin: str = "board") -> None:
    """Give an agent a skill from its next run on; again changes nothing.

    Raises:
        LimitError: it has too many.
    """
    projects.get_agent(unit, agent_id)
    has = of_agent(unit, agent_id)
    if any(one.id == skill.id for one in has):
        return
    if len(has) >= MAX_SKILLS:
        raise LimitError(f"agent {agent_id} has {MAX_SKILLS} skills already")
    unit.conn.execute(insert(_given).values(agent_id=agent_id, skill_id=skill.id, origin=origin))
    _emit(unit, skill, "skill.assigned", actor, agent_id=agent_id)


def unassign(unit: Unit, skill: Skill, agent_id: str, *, actor: str) -> None:
    """Give an agent a skill no more; that it was not given it is no error.

    Raises:
        ConflictError: the configuration gives it.
    """
    pair = (_given.c.agent_id == agent_id) & (_given.c.skill_id == skill.id)
    origin = unit.conn.scalar(select(_given.c.origin).where(pair))
    if origin == "file":
        raise ConflictError(
            f"the configuration gives {skill.directory_name} to agent {agent_id}",
            hint=f"take it out of agents.{agent_id}.skills",
        )
    if origin is not None:
        unit.conn.execute(delete(_given).where(pair))
        _emit(unit, skill, "skill.unassigned", actor, agent_id=agent_id)


def declare(unit: Unit, wanted: Mapping[str, Sequence[Packed]]) -> None:
    """Give agents what the configuration says; what vanished from it goes, unless a person gave it.

    Args:
        unit: The unit of work.
        wanted: Skills by agent; agents that have none may be left away.

    Raises:
        ConfigError: a name is taken by a skill that the configuration did not bring.
    """
    pairs: dict[tuple[str, str], Skill] = {}
    for agent_id, listed in wanted.items():
        for new in listed:
            known = _named(unit, new.directory_name)
            if known is not None and known.added_by != CONFIGURATION:
                raise ConfigError(
                    f"agents.{agent_id}.skills: there is a skill {new.directory_name} already, added by "
                    f"{known.added_by}",
                    hint="remove that one (`skill remove`), or give the folder another name",
                )
            skill = keep(unit, new, added_by=CONFIGURATION, replaces=True)
            pairs[agent_id, skill.id] = skill
    rows = unit.conn.execute(select(_given).where(_given.c.origin == "file")).mappings().all()
    for row in rows:
        pair = (row["agent_id"], row["skill_id"])
        if pair not in pairs:
            unit.conn.execute(
                delete(_given).where(_given.c.agent_id == pair[0], _given.c.skill_id == pair[1])
            )
            _emit(unit, get(unit, pair[1]), "skill.unassigned", CONFIGURATION, agent_id=pair[0])
    for (agent_id, _), skill in pairs.items():
        assign(unit, skill, agent_id, actor=CONFIGURATION, origin="file")
    left = select(_skill).where(
        _skill.c.added_by == CONFIGURATION, _skill.c.id.not_in(select(_given.c.skill_id))
    )
    for row in unit.conn.execute(left).mappings().all():
        remove(unit, _skill_of(row), actor=CONFIGURATION)


def _add(unit: Unit, new: Packed, added_by: str) -> Skill:
    count, size = unit.conn.execute(
        select(func.count(), func.coalesce(func.sum(_skill.c.size), 0)).select_from(_skill)
    ).one()
    if count >= MAX_KEPT or size + len(new.archive) > MAX_KEPT_BYTES:
        raise LimitError(
            f"at most {MAX_KEPT} skills and {MAX_KEPT_BYTES} bytes of them are kept",
            hint="remove some with `skill remove`",
        )
    _put_archive(unit, new)
    facts = _columns(new) | {"id": ids.new_id("skl"), "added_by": added_by}
    facts |= {"created_at": unit.now, "updated_at": unit.now}
    unit.conn.execute(insert(_skill).values(facts))
    skill = get(unit, facts["id"])
    _emit(unit, skill, "skill.added", added_by, sha256=new.sha256)
    return skill


def _put_archive(unit: Unit, new: Packed) -> None:
    known = select(_archive.c.sha256).where(_archive.c.sha256 == new.sha256)
    if unit.conn.scalar(known) is None:
        unit.conn.execute(insert(_archive).values(sha256=new.sha256, content=new.archive))


def _sweep(unit: Unit) -> None:
    """Drop content that no skill has any more."""
    unit.conn.execute(delete(_archive).where(_archive.c.sha256.not_in(select(_skill.c.sha256))))


def _columns(new: Packed) -> dict[str, Any]:
    return {
        "directory_name": new.directory_name,
        "name": new.name,
        "description": new.description,
        "sha256": new.sha256,
        "size": len(new.archive),
        "unpacked_size": new.unpacked_size,
        "files": new.files,
    }


def _named(unit: Unit, directory_name: str) -> Skill | None:
    query = select(_skill).where(_skill.c.directory_name == directory_name)
    row = unit.conn.execute(query).mappings().first()
    return None if row is None else _skill_of(row)


def _skill_of(row: RowMapping) -> Skill:
    return Skill(**row)


def _emit(
    unit: Unit, skill: Skill, action: str, actor: str, agent_id: str | None = None, **data: str
) -> None:
    unit.emit(
        action,
        actor=actor,
        agent_id=agent_id,
        refusal=False,
        **{"skill_id": skill.id, "directory_name": skill.directory_name, **dict[str, Any](data)},
    )
