"""Skills reach the agents that have them, and hand-offs the agents they are for; nothing of it stays."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from support.house import House, house, script, until

GUIDE = "---\nname: paint\ndescription: How walls are painted here.\n---\nUse the wide brush.\n"
#: Copies the guide that the prompt names, and the prompt itself, to where the test finds them.
READ = (
    'run="{state}/run/$AIAGENT_RUN_ID"; cp "$run/prompt" "{out}/$1.prompt"; '
    'guide=$(grep "^  /.*/SKILL.md" "$run/prompt" | head -1 | tr -d " "); '
    'echo "$guide" > "{out}/$1.path"; '
    'cp "$guide" "{out}/$1.guide"; sh "$(dirname "$guide")/scripts/mix.sh" > "{out}/$1.mixed"'
)


def skill_folder(root: Path, guide: str = GUIDE) -> Path:
    folder = root / "skills-of-mine" / "paint"
    (folder / "scripts").mkdir(parents=True)
    (folder / "SKILL.md").write_text(guide)
    (folder / "scripts" / "mix.sh").write_text("echo mixed\n")
    (folder / "scripts" / "mix.sh").chmod(0o755)
    return folder


def snapshot(*folders: Path) -> dict[str, str]:
    """Everything in these folders: kinds, modes, and digests of contents."""
    found: dict[str, str] = {}
    for top in folders:
        for path in sorted(top.rglob("*")):
            if ".git" in path.relative_to(top).parts:
                continue
            info = path.lstat()
            content = ""
            if path.is_symlink():
                content = str(path.readlink())
            elif path.is_file():
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path)] = f"{info.st_mode:o} {content}"
    return found


def reads(home: House, name: str) -> dict[str, Any]:
    out = home.root / "out"
    out.mkdir(exist_ok=True)
    words = READ.format(state=home.state, out=out)
    return {"run": {"argv": ["sh", "-c", words, "sh", name]}}


def seen(home: House, name: str) -> str:
    return (home.root / "out" / name).read_text()


@pytest.mark.parametrize("workspace", ["worktree", "directory"])
def test_an_agent_reads_its_skill_and_hands_over_to_another(
    short_dir: Path, workspace: str
) -> None:
    with house(short_dir) as home:
        home.write(
            agents={"worker": {"provider": "rehearsal"}, "mate": {"provider": "rehearsal"}},
            projects=[{"id": "app", "path": str(home.repo), "workspace": workspace}],
        )
        mine = short_dir / "home" / ".claude" / "skills" / "own"
        mine.mkdir(parents=True)
        (mine / "SKILL.md").write_text("mine")
        home.ready()
        folder = skill_folder(short_dir)
        kept = home.json("skill", "add", str(folder))
        assert (kept["directory_name"], kept["files"], kept["added_by"]) == ("paint", 2, "person")
        home.run("skill", "assign", "paint", "worker")
        before = snapshot(home.repo, short_dir / "home" / ".claude", folder)
        second = home.json(
            *("task", "add", "--project", "app", "--agent", "mate", "--title", "Second"),
            *("--needs-approval", "--description", script({"take": {}}, reads(home, "second"))),
        )
        left = {
            "summary": "The first wall is red.",
            "context": "The paint stands in the shed.",
            "recommendations": "Do two coats.",
            "to_agent_id": "mate",
            "task_id": second["id"],
        }
        steps = (reads(home, "first"), {"call": {"tool": "hand_over", "arguments": left}})
        first = home.add("First", script(*steps))
        home.run("task", "depend", second["id"], "--on", first["id"])
        home.run("task", "approve", second["id"])
        assert home.finished(first["id"])["status"] == "succeeded"
        assert home.finished(second["id"])["status"] == "succeeded", home.log_text()

        assert seen(home, "first.guide") == GUIDE
        assert seen(home, "first.mixed") == "mixed\n"
        assert "paint: How walls are painted here." in seen(home, "first.prompt")
        run = home.last(first["id"])
        assert f"{home.state}/run/{run['id']}/files/" in seen(home, "first.path")
        assert not Path(seen(home, "first.path").strip()).exists(), "it goes with the run"
        told = seen(home, "second.prompt")
        for part in ("The first wall is red.", "The paint stands in the shed.", "Do two coats."):
            assert part in told
        assert "From worker" in told
        assert "# Skills" not in told, "only who has it is given it"
        (one,) = home.json("handoff", "list", "--task", second["id"])["handoffs"]
        assert (one["from_agent_id"], one["accepted_by"]) == ("worker", "mate")
        assert one["id"] in home.run("task", "show", second["id"]).stdout
        assert home.json("handoff", "show", one["id"][:10])["summary"] == left["summary"]
        assert home.json("handoff", "list", "--pending") == {"handoffs": []}
        until("all is put away", lambda: not list(home.state.glob("run/*/files")))
        after = snapshot(home.repo, short_dir / "home" / ".claude", folder)
        if workspace == "directory":
            # where the folder itself is worked in, artifacts lie in it, as everywhere
            after = {path: what for path, what in after.items() if "/repo/.aiagent" not in path}
        assert after == before
        home.down()


def test_the_configuration_gives_skills_and_takes_them_away(short_dir: Path) -> None:
    with house(short_dir) as home:
        folder = skill_folder(short_dir)
        packed = short_dir / "plaster.zip"
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("plaster/SKILL.md", "Plaster first.")
        home.write(
            agents={"worker": {"provider": "rehearsal", "skills": [str(folder), "plaster.zip"]}}
        )
        home.ready()
        listed = {one["directory_name"]: one for one in home.json("skill", "list")["skills"]}
        assert {name: one["agents"] for name, one in listed.items()} == {
            "paint": ["worker"],
            "plaster": ["worker"],
        }
        assert listed["paint"]["added_by"] == "configuration"
        refused = home.run("skill", "unassign", "paint", "worker", check=False)
        assert (refused.returncode, "agents.worker.skills" in refused.stderr) == (6, True)
        assert home.run("skill", "remove", "paint", check=False).returncode == 6
        shown = home.run("skill", "show", "paint").stdout
        assert "Use the wide brush." in shown
        assert "scripts/mix.sh" in shown
        home.write(agents={"worker": {"provider": "rehearsal", "skills": [str(folder)]}})
        until("it is taken up", lambda: len(home.json("skill", "list")["skills"]) == 1)
        # what cannot be read changes nothing
        home.write(agents={"worker": {"provider": "rehearsal", "skills": ["nowhere"]}})
        until("it is refused", lambda: home.logged("config.refused"))
        (said,) = home.logged("config.refused")
        assert "agents.worker.skills.0" in said["reason"]
        assert len(home.json("skill", "list")["skills"]) == 1
        home.down()
        assert home.start().wait(60) == 3, home.log_text()


#: The rehearsal agent under another name, which wants what it is told of itself in a file.
DEFINITION = """
schema = 1
name = "careful"
title = "Careful"
[detect]
executable = "{python}"
[launch]
command = ["-I", "-m", "aiagent_coordinator.rehearsal"]
args = [["--mcp-config", "{mcp_config_file}"], ["--session-id", "{system_prompt_file}"]]
system_prompt_file = "sub/role.md"
[mcp]
style = "file"
stdio = { command = "{bridge_command}", args = "{bridge_args}" }
"""


def test_a_role_is_written_where_a_cli_wants_it_and_only_there(short_dir: Path) -> None:
    words = (
        'run="{state}/run/$AIAGENT_RUN_ID"; cp "$run/prompt" "{state}/told.prompt"; '
        'cp "$run/files/sub/role.md" "{state}/told.role"; stat -c %a "$run/files/sub/role.md"'
    )
    with house(short_dir) as home:
        folder = Path(home.env["XDG_CONFIG_HOME"]) / "aiagent-coordinator" / "providers"
        folder.mkdir(parents=True)
        (folder / "careful.toml").write_text(DEFINITION)
        home.write(agents={"worker": {"provider": "careful", "role": "You are careful."}})
        home.ready()
        step = {"run": {"argv": ["sh", "-c", words.replace("{state}", str(home.state))]}}
        task = home.add("Look", script(step))
        assert home.finished(task["id"])["status"] == "succeeded", home.log_text()
        assert (home.state / "told.role").read_text() == "You are careful.\n"
        assert "You are careful." not in (home.state / "told.prompt").read_text()
        assert "600" in home.run("logs", task["id"]).stdout
        home.down()


def test_an_agent_registers_a_skill_of_its_workspace_and_of_nothing_else(short_dir: Path) -> None:
    with house(short_dir) as home:
        (short_dir / "secret").mkdir()
        (short_dir / "secret" / "SKILL.md").write_text("the key of the house")
        home.ready()
        link = (
            f"ln -s {short_dir}/secret linked; mkdir evil; ln -s {short_dir}/secret/SKILL.md evil/"
        )
        ways: list[dict[str, Any]] = [
            {"folder_path": "linked"},
            {"folder_path": "evil"},
            {"folder_path": str(short_dir / "secret")},
            {"folder_path": "../../../../secret"},
            {"zip_file_path": "/etc/passwd"},
            {"skill_md_content": "x", "folder_path": "new"},
            {},
        ]
        refused = [
            {"call": {"tool": "register_skill", "arguments": way, "fails": True}} for way in ways
        ]
        made = {"call": {"tool": "register_skill", "arguments": {"folder_path": "new"}}}
        text = {"skill_md_content": "Sand it.", "directory_name": "sanding"}
        task = home.add(
            "Make a skill",
            script(
                {"write": {"path": "new/SKILL.md", "text": GUIDE}},
                {"run": {"argv": ["sh", "-c", link]}},
                *refused,
                made,
                {"call": {"tool": "register_skill", "arguments": text}},
                {"run": {"argv": ["rm", "-r", "linked", "evil"]}},
            ),
        )
        assert home.finished(task["id"])["status"] == "succeeded", home.run(
            "logs", task["id"]
        ).stdout
        listed = home.json("skill", "list")["skills"]
        assert {one["directory_name"]: one["added_by"] for one in listed} == {
            "paint": "agent:worker",
            "sanding": "agent:worker",
        }
        assert all(one["agents"] == [] for one in listed), "a person decides who is given it"
        assert "the key of the house" not in json.dumps(
            [home.json("skill", "show", one["id"]) for one in listed]
        )
        home.down()
