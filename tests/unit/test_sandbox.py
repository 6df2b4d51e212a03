"""Which sandbox a run gets, and what it leaves open: the parts that can be said without making one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator.config import load_settings
from aiagent_coordinator.errors import ConfigError, SpawnError
from aiagent_coordinator.sandbox.grants import Grants, Places, grants_of, program_folders
from aiagent_coordinator.sandbox.keeper import Sandboxes, wishes_of
from aiagent_coordinator.sandbox.plan import bwrap_words, landlock_rules, plan_of, seatbelt_words
from aiagent_coordinator.sandbox.policy import Choice, Kind, Network, Wishes, strictest


def places(root: Path, **more: Any) -> Places:
    state, workspace, home = root / "state", root / "state" / "ws", root / "home"
    for folder in (state, workspace, home):
        folder.mkdir(parents=True, exist_ok=True)
    given: dict[str, Any] = {"write": (workspace,), **more}
    return Places(state_root=state, workspace=workspace, home=home, **given)


def test_a_run_gets_the_strictest_that_anybody_wishes_for():
    everywhere = Choice(Kind.LANDLOCK, read=(Path("/a"),))
    wishes = Wishes(
        everywhere,
        agents={"bold": Choice(Kind.NONE, write=(Path("/b"),)), "shy": Choice(Kind.BWRAP)},
        projects={"secret": Choice(network=Network.NONE, read=(Path("/a"), Path("/c")))},
    )
    assert wishes.choice("bold", "open").kind is Kind.LANDLOCK
    assert wishes.choice("shy", "open").kind is Kind.BWRAP
    got = wishes.choice("bold", "secret")
    assert got == Choice(Kind.LANDLOCK, Network.NONE, (Path("/a"), Path("/c")), (Path("/b"),))
    assert strictest() == Choice()
    assert wishes.kinds() == {
        (Kind.LANDLOCK, Network.INHERIT),
        (Kind.LANDLOCK, Network.NONE),
        (Kind.BWRAP, Network.INHERIT),
        (Kind.BWRAP, Network.NONE),
    }


HEAD = """\
agents:
  a: {provider: rehearsal, approval: bypass%s}
projects:
  - {id: p, path: /tmp%s}
"""


@pytest.mark.parametrize(
    ("agent", "project", "top", "is_good"),
    [
        ("", "", "", False),
        (", sandbox: landlock", "", "", True),
        ("", ", sandbox: bwrap", "", True),
        ("", ", sandbox: bwrap, agents: []", "", True),
        ("", "", "sandbox: bwrap\n", True),
        ("", "", "i_understand_unsandboxed: true\n", True),
        ("", "}\n  - {id: q, path: /usr, sandbox: bwrap", "", False),
        (", sandbox: none", "", "sandbox_network: none\n", False),
    ],
)
def test_bypass_needs_a_sandbox_wherever_the_agent_works(
    agent: str, project: str, top: str, is_good: bool, tmp_path: Path
):
    file = tmp_path / "coordinator.yaml"
    file.write_text(top + HEAD % (agent, project))
    if is_good:
        assert load_settings(file, environment={}).settings.agents["a"].approval == "bypass"
        return
    with pytest.raises(ConfigError, match="set sandbox, or i_understand_unsandboxed: true"):
        load_settings(file, environment={})


def test_an_agent_that_asks_nobody_is_not_started_bare_in_a_project_that_was_added_later():
    """The settings cannot know that project; the start is where it shows."""
    wishes = Wishes(projects={"shut": Choice(Kind.LANDLOCK)})
    assert "needs a sandbox" in (Sandboxes(wishes).refusal("a", "added", "bypass") or "")
    with pytest.raises(SpawnError, match="needs a sandbox"):
        Sandboxes(wishes).choose("a", "added", "bypass")
    assert Sandboxes(wishes).refusal("a", "added", "edits") is None
    assert Sandboxes(wishes).refusal("a", "shut", "bypass") is None
    allowed = Sandboxes(Wishes(allows_unsandboxed=True))
    assert allowed.choose("a", "added", "bypass").kind is Kind.NONE


def test_settings_are_taken_up_by_level(tmp_path: Path):
    file = tmp_path / "coordinator.yaml"
    file.write_text(
        "sandbox: landlock\nsandbox_read: [data]\n"
        "agents:\n  a: {provider: x, sandbox_write: [~/cache], sandbox_network: none}\n"
        "projects:\n  - {id: p, workspace: scratch, sandbox: bwrap}\n"
    )
    wishes = wishes_of(load_settings(file, environment={"HOME": "/h"}).settings)
    got = wishes.choice("a", "p")
    assert (got.kind, got.network) == (Kind.BWRAP, Network.NONE)
    assert got.read == (tmp_path / "data",)
    assert got.write[0].name == "cache"


def test_nothing_opens_the_state_directory(tmp_path: Path):
    """Not by its parent, not by itself, not by what lies in it, not by a link."""
    (tmp_path / "link").symlink_to(tmp_path / "state")
    for opened in ("", "state", "state/run", "link", "link/run", "home/../state"):
        (tmp_path / "state" / "run").mkdir(parents=True, exist_ok=True)
        for key in ("read", "write"):
            wish: dict[str, Any] = {key: (tmp_path / opened,)}
            choice = Choice(Kind.BWRAP, **wish)
            with pytest.raises(SpawnError, match="would open the state directory"):
                grants_of(places(tmp_path), choice)
    assert (
        tmp_path / "home"
        in grants_of(places(tmp_path), Choice(Kind.BWRAP, read=(tmp_path / "home",))).read
    )


def test_what_was_not_asked_for_by_name_never_opens_the_home(tmp_path: Path):
    """A program that lies right in the home, or a PATH that names it."""
    home = tmp_path / "home"
    program = home / "agent"
    given = places(tmp_path, programs=(program,), path_env=f"{home}:{tmp_path}:/usr/bin")
    program.write_text("#!/bin/sh\n")
    read = grants_of(given, Choice(Kind.BWRAP)).read
    assert program in read
    assert not {home, tmp_path}.intersection(read)
    assert not any(home.is_relative_to(path) for path in read)


def test_a_program_is_given_what_it_is_made_of(tmp_path: Path):
    """A script of npm: its package with all its packages, and the interpreter it names."""
    modules = tmp_path / "lib" / "node_modules"
    script = modules / "@maker" / "cli" / "main.js"
    script.parent.mkdir(parents=True)
    script.write_text("#!/usr/bin/env -S node --flag\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "cli").symlink_to(script)
    node = tmp_path / "node" / "bin" / "node"
    node.parent.mkdir(parents=True)
    node.write_text("")
    node.chmod(0o755)
    found = set(program_folders(tmp_path / "bin" / "cli", str(node.parent)))
    wanted = {tmp_path / "bin", tmp_path / "lib", modules, script.parent, node, node.parent}
    assert found >= wanted
    assert tmp_path not in found


def grants(root: Path, **more: Any) -> Grants:
    given: dict[str, Any] = {
        "workspace": root / "ws",
        "home": root / "home",
        "read": (root / "ro", root / "ro" / "inner"),
        "write": (root / "ws", root / "ro" / "rw"),
        **more,
    }
    for path in (*given["read"], *given["write"]):
        path.mkdir(parents=True, exist_ok=True)
    return Grants(**given)


def test_bubblewrap_mounts_a_folder_before_what_lies_in_it(tmp_path: Path):
    words = bwrap_words(grants(tmp_path, door=tmp_path / "door", network=Network.NONE))
    pairs = [(words[n], words[n + 1]) for n in range(len(words) - 1)]
    order = [pairs.index(pair) for pair in (
        ("--tmpfs", "/tmp"),
        ("--tmpfs", str(tmp_path / "home")),
        ("--ro-bind", str(tmp_path / "ro")),
        ("--bind", str(tmp_path / "ro" / "rw")),
        ("--bind", str(tmp_path / "ws")),
        ("--remount-ro", "/"),
    )]  # fmt: skip
    assert order == sorted(order)
    # below what is open already, nothing is mounted again
    assert ("--ro-bind", str(tmp_path / "ro" / "inner")) not in pairs
    assert ("--ro-bind", str(tmp_path / "door")) in pairs
    for word in ("--unshare-net", "--unshare-pid", "--unshare-user", "--die-with-parent"):
        assert word in words
    assert ("--uid", "1000") in pairs or os.geteuid() != 0
    assert words[-1] == "--"
    assert "--unshare-net" not in bwrap_words(grants(tmp_path))


def test_landlock_is_told_each_access_by_name(tmp_path: Path):
    rules = list(landlock_rules(grants(tmp_path, listed=(tmp_path,))))
    pairs = set(zip(rules[::2], rules[1::2], strict=True))
    assert pairs >= {
        ("read", str(tmp_path / "ro")),
        ("write", str(tmp_path / "ws")),
        ("list", str(tmp_path)),
        ("device", "/dev/null"),
    }
    assert not any(path in {"/", "/dev", "/tmp", "/etc"} for _, path in pairs)
    fields = plan_of(Kind.LANDLOCK, grants(tmp_path, network=Network.NONE)).split(b"\0")
    assert fields[:2] == [b"landlock", b"none"]


def test_a_plan_of_a_program_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(SpawnError, match="bwrap was not found on PATH"):
        plan_of(Kind.BWRAP, grants(tmp_path), path_env=str(tmp_path))


def test_the_profile_for_macos_denies_by_default(tmp_path: Path):
    """Text alone: nobody has run it."""
    odd = tmp_path / 'a "b"'
    flag, profile = seatbelt_words(grants(tmp_path, read=(odd,), door=tmp_path / "door", network=Network.NONE))  # fmt: skip
    lines = profile.splitlines()
    assert (flag, lines[:2]) == ("-p", ["(version 1)", "(deny default)"])
    real = os.path.realpath(tmp_path)
    assert f'(allow file-read* (subpath "{real}/a \\"b\\""))' in lines
    assert f'(allow file-read* file-write* (subpath "{real}/ws"))' in lines
    assert not any("network*" in line for line in lines)
    assert profile.count("(") == profile.count(")")
    assert "(allow network*)" in seatbelt_words(grants(tmp_path))[1]
