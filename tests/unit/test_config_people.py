"""People in a configuration: whose agents are whose, and where each has the projects."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiagent_coordinator.config import load_settings
from aiagent_coordinator.errors import ConfigError
from aiagent_coordinator.tasks import AgentKind

FILE = """\
people:
  maria: {directories: {app: /home/maria/app}}
  jo: {parent: maria}
agents:
  ann: {provider: rehearsal, parent: maria}
projects:
  - {id: app, path: .}
root_agent_id: maria
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "coordinator.yaml"
    file.write_text(text, "utf-8")
    return file


def test_people_have_directories_and_agents_name_them_as_their_parent(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, FILE)).settings
    maria = settings.people["maria"]
    assert maria.directories == {"app": "/home/maria/app"}
    assert maria.person("maria").kind is AgentKind.PERSON
    assert settings.agents["ann"].agent("ann").parent_id == "maria"
    assert settings.root_agent_id == "maria"
    # nobody is started for a person
    assert settings.agents_of(settings.projects[0]) == ("ann",)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("/home/maria/app", "app", ":2: people.maria.directories.app: must be an absolute path without `..`"),
        ("/home/maria/app", "/home/../app", "must be an absolute path without `..`"),
        ("app: /home", "web: /home", ":2: people.maria.directories.web: there is no project 'web'; there are: app"),
        ("parent: maria}\nagents", "parent: mary}\nagents", ":3: people.jo.parent: there is no person 'mary'; declare it"),
        ("maria: {dir", "maria: {parent: jo, dir", "works for who works for it; remove one `parent`"),
        ("  jo: ", "  ann: ", ":3: people.ann: ann is the id of an agent too; choose another"),
        ("  jo: ", "  Jo: ", ":3: people.Jo: an id has lower-case letters"),
        ("parent: maria}\nprojects", "parent: eve}\nprojects", ":5: agents.ann.parent: there is no agent 'eve'; declare it"),
        ("directories", "dirs", "people.maria.dirs: unknown setting"),
    ],
)  # fmt: skip
def test_a_mistake_about_people_is_told_with_its_line_and_key(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert FILE.count(old) == 1, old
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, FILE.replace(old, new)))
    lines = caught.value.details["problems"]
    assert isinstance(lines, list)
    assert any(said in str(line) for line in lines), lines  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - lines
