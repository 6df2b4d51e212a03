"""Where programs are found: on the PATH, else where installers put them; never in a workspace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from aiagent_coordinator.providers.catalog import load_catalog
from aiagent_coordinator.providers.command import LaunchValues
from aiagent_coordinator.providers.detect import resolve
from aiagent_coordinator.providers.environment import child_env
from aiagent_coordinator.providers.probing import Prober, identity

POOR = "/usr/bin:/bin"
CLAUDE = load_catalog().get("claude")
DEFINITION = replace(CLAUDE, detect=replace(CLAUDE.detect, executable="mycli-of-the-test"))
NAME = DEFINITION.detect.executable


def executable(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    file.chmod(0o755)
    return file


def npm(home: Path, prefix: str) -> Path:
    """What `npm install -g` leaves: a link to a script whose interpreter lies beside the link."""
    root = home / prefix
    script = root / "lib/node_modules/pkg/cli.js"
    executable(script, "#!/usr/bin/env node-of-the-test\n")  # fmt: skip
    executable(root / "bin/node-of-the-test", '#!/bin/sh\necho "2.1.200 (by node)"\n')
    (root / "bin" / NAME).symlink_to("../lib/node_modules/pkg/cli.js")
    return root / "bin" / NAME


def volta(home: Path) -> Path:
    """A shim that is one program for all, and knows by its name which is meant."""
    executable(home / ".volta/bin/volta-shim", '#!/bin/sh\necho "2.1.201 ${0##*/}"\n')
    (home / ".volta/bin" / NAME).symlink_to("volta-shim")
    return home / ".volta/bin" / NAME


def pipx(home: Path) -> Path:
    python = executable(home / ".local/pipx/venvs/pkg/bin/python", "#!/bin/sh\necho 2.1.202\n")  # fmt: skip
    script = executable(home / ".local/pipx/venvs/pkg/bin" / NAME, f"#!{python}\n")
    (home / ".local/bin").mkdir(parents=True)
    (home / ".local/bin" / NAME).symlink_to(script)
    return home / ".local/bin" / NAME


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "npm global": lambda home: npm(home, ".npm-global"),
    "nvm": lambda home: npm(home, ".nvm/versions/node/v22.3.0"),
    "volta": volta,
    "pipx": pipx,
    "bun": lambda home: executable(home / ".bun/bin" / NAME, "#!/bin/sh\necho 2.1.203\n"),
    "user's own": lambda home: executable(home / ".local/bin" / NAME, "#!/bin/sh\necho 2.1.204\n"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_program_is_found_and_starts_where_installers_put_it_though_the_path_is_poor(
    layout: str, tmp_path: Path
):
    place = LAYOUTS[layout](tmp_path)
    environ = {"PATH": POOR, "HOME": str(tmp_path)}
    assert resolve(DEFINITION, POOR, Path("/dev/null"), str(tmp_path)) == place
    (probe,) = Prober(environ).look([(DEFINITION, load_catalog().chosen("claude"))])
    assert probe.path == place
    assert probe.version
    assert probe.version.startswith("2.1.20")
    # so it does as a run: what its launcher needs is on its PATH
    values = LaunchValues(tmp_path / "run", tmp_path / "work", "/s", "run_1", "a", "p")
    done = subprocess.run(
        [place],
        env=child_env(environ, DEFINITION, values),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.startswith("2.1.20")


def test_the_newest_version_of_a_version_manager_is_taken(tmp_path: Path):
    for version in ("v9.1.0", "v22.3.0", "v20.9.9"):
        npm(tmp_path, f".nvm/versions/node/{version}")
    found = resolve(DEFINITION, POOR, Path("/dev/null"), str(tmp_path))
    assert found == tmp_path / ".nvm/versions/node/v22.3.0/bin" / NAME


def test_the_path_goes_before_the_usual_places(tmp_path: Path):
    own = executable(tmp_path / "bin" / NAME, "#!/bin/sh\n")
    volta(tmp_path)
    path = f"{POOR}{os.pathsep}{own.parent}"
    assert resolve(DEFINITION, path, Path("/dev/null"), str(tmp_path)) == own


def test_nothing_is_taken_from_a_workspace_though_it_lies_in_a_usual_place(tmp_path: Path):
    executable(tmp_path / "work" / NAME, "#!/bin/sh\n")
    (tmp_path / ".local/bin").mkdir(parents=True)
    (tmp_path / ".local/bin" / NAME).symlink_to(tmp_path / "work" / NAME)
    assert resolve(DEFINITION, POOR, tmp_path / "work", str(tmp_path)) is None


def test_a_program_is_another_when_its_link_leads_elsewhere_or_its_file_is_replaced(tmp_path: Path):
    first = executable(tmp_path / "v1/cli", "#!/bin/sh\n")
    second = executable(tmp_path / "v2/cli", "#!/bin/sh\n")
    link = tmp_path / "cli"
    link.symlink_to(first)
    seen = {identity(link)}
    link.unlink()
    link.symlink_to(second)
    seen.add(identity(link))
    executable(tmp_path / "draft", "#!/bin/sh\n: new\n").replace(second)
    seen.add(identity(link))
    second.unlink()
    assert len(seen) == 3
    assert identity(link) == ""


def test_a_version_is_remembered_until_the_program_is_another(tmp_path: Path):
    file = executable(tmp_path / ".local/bin" / NAME, f"#!/bin/sh\necho x >> {tmp_path}/asked; echo 2.1.210\n")  # fmt: skip
    prober = Prober({"PATH": POOR, "HOME": str(tmp_path)}, memory=tmp_path / "versions.json")
    wanted = [(DEFINITION, load_catalog().chosen("claude"))]
    assert [prober.look(wanted)[0].version for _ in range(3)] == ["2.1.210"] * 3
    assert (tmp_path / "asked").read_text() == "x\n"
    executable(tmp_path / "draft", "#!/bin/sh\necho 2.1.211\n").replace(file)
    assert prober.look(wanted)[0].version == "2.1.211"


def test_a_program_without_words_for_its_version_is_never_started(tmp_path: Path):
    executable(tmp_path / ".local/bin" / NAME, f"#!/bin/sh\ntouch {tmp_path}/started\n")
    bare = replace(DEFINITION, detect=replace(DEFINITION.detect, version_args=()))
    prober = Prober({"PATH": POOR, "HOME": str(tmp_path)}, asks_login=False)
    (probe,) = prober.look([(bare, load_catalog().chosen("claude"))])
    assert (probe.version, (tmp_path / "started").exists()) == (None, False)
