"""People in a configuration: who has agents, and where each has the projects on its own machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

from aiagent_coordinator.config.fields import Model, setting
from aiagent_coordinator.config.source import KeyPath
from aiagent_coordinator.ids import CHOSEN_ID
from aiagent_coordinator.tasks import Agent, AgentKind


class PersonSettings(Model):
    """A human being. The key is its id; agents name it as their `parent`."""

    parent: str | None = setting(
        None, "The id of the person that it works for.", min_length=1, reload="live"
    )
    directories: dict[str, str] = setting(
        {},
        "Where it has each project, by the project's id: an absolute path of the machine that it works "
        "at. Its agents work there when their coordinator names it as `root_agent_id`.",
        reload="live",
    )

    def person(self, person_id: str) -> Agent:
        """The person as the board knows it."""
        return Agent(
            id=person_id,
            name=person_id,
            provider="",
            parent_id=self.parent,
            kind=AgentKind.PERSON,
        )


def contradictions(
    people: Mapping[str, PersonSettings], agents: Collection[str], projects: Collection[str]
) -> list[tuple[KeyPath, str]]:
    """Ids that are none or taken, people that work for nobody there is, and paths that are none."""
    found: list[tuple[KeyPath, str]] = []
    for person_id, person in people.items():
        here: KeyPath = ("people", person_id)
        if not CHOSEN_ID.match(person_id):
            found.append((here, "an id has lower-case letters, digits, `.`, `_` and `-`"))
        if person_id in agents:
            found.append((here, f"{person_id} is the id of an agent too; choose another"))
        if person.parent is not None and person.parent not in people:
            found.append(((*here, "parent"), f"there is no person {person.parent!r}; declare it"))
        elif _is_above_itself(people, person_id):
            found.append(((*here, "parent"), "works for who works for it; remove one `parent`"))
        for project_id, path in person.directories.items():
            at: KeyPath = (*here, "directories", project_id)
            if project_id not in projects:
                listed = ", ".join(projects) or "none"
                found.append((at, f"there is no project {project_id!r}; there are: {listed}"))
            if not _is_place(path):
                found.append((at, "must be an absolute path without `..`"))
    return found


def _is_place(path: str) -> bool:
    parts = PurePosixPath(path)
    return path.isprintable() and parts.is_absolute() and ".." not in parts.parts


def _is_above_itself(people: Mapping[str, PersonSettings], person_id: str) -> bool:
    seen: set[str] = set()
    above = people[person_id].parent
    while above is not None and above in people and above not in seen:
        if above == person_id:
            return True
        seen.add(above)
        above = people[above].parent
    return False
