"""A login that lies in files: what of it a run's home has, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from aiagent_coordinator.errors import ProviderError
from aiagent_coordinator.providers.catalog import load_catalog
from aiagent_coordinator.providers.definition import load_definition
from aiagent_coordinator.providers.logins import link_logins, login_files
from aiagent_coordinator.providers.mcp_config import config
from aiagent_coordinator.providers.probing import Login, login_of
from aiagent_coordinator.providers.values import LaunchValues

GEMINI = load_catalog().get("gemini")
CREDENTIALS = json.dumps({"access_token": "a", "refresh_token": "r", "expiry_date": 1}, indent=2)
LINK = ".gemini/oauth_creds.json"


def home(tmp_path: Path, credentials: str | None = CREDENTIALS) -> dict[str, str]:
    folder = tmp_path / "home" / ".gemini"
    folder.mkdir(parents=True)
    if credentials is not None:
        (folder / "oauth_creds.json").write_text(credentials)
    return {"HOME": str(tmp_path / "home")}


def test_a_login_in_the_users_home_is_linked_and_never_copied(tmp_path: Path):
    env = home(tmp_path)
    files = login_files(GEMINI.auth, env)
    theirs = tmp_path / "home" / LINK
    assert files == {LINK: theirs}  # no file of accounts is there
    for _ in range(2):  # a run is prepared twice after a crash
        link_logins(tmp_path / "run", files)
    link = tmp_path / "run" / LINK
    assert link.readlink() == theirs
    # a renewed token is written through the link, as the program writes it
    link.write_text("renewed")
    assert theirs.read_text() == "renewed"
    link.unlink()
    assert theirs.exists()


@pytest.mark.parametrize(
    "credentials", [None, "", "{}", '{"access_token": "a"}', '{"refresh_token": ""}', "\xff"]
)
def test_what_is_no_login_is_not_taken_for_one(tmp_path: Path, credentials: str | None):
    env = home(tmp_path, credentials)
    assert login_files(GEMINI.auth, env) == {}
    assert login_of(GEMINI, Path("/nowhere"), env) is Login.NEEDS_LOGIN


def test_a_key_goes_before_a_login(tmp_path: Path):
    env = home(tmp_path)
    assert login_of(GEMINI, Path("/nowhere"), env) is Login.LOGGED_IN
    keyed = {**env, "GEMINI_API_KEY": "k"}
    assert login_files(GEMINI.auth, keyed) == {}
    assert login_of(GEMINI, Path("/nowhere"), keyed) is Login.KEY
    assert login_of(GEMINI, Path("/nowhere"), {}) is Login.NEEDS_LOGIN


@pytest.mark.parametrize(
    ("logged_in", "chosen"), [(True, "oauth-personal"), (False, "gemini-api-key")]
)
def test_the_program_is_told_which_of_the_two_it_has(logged_in: bool, chosen: str):
    values = LaunchValues(
        run_dir=Path("/run"),
        workspace=Path("/work"),
        socket="/s",
        run_id="r",
        agent_id="a",
        project_id="p",
    )
    if logged_in:
        values = replace(values, login_files={LINK: Path("/home/me/.gemini/oauth_creds.json")})
    assert config(GEMINI, values)["security"] == {"auth": {"selectedType": chosen}}


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ('"../x" = "~/.x"', "auth.files: must be paths inside the run's own folder"),
        ('"x" = "/etc/passwd"', "auth.files: '/etc/passwd' must be a path inside the home"),
    ],
)
def test_links_lead_from_the_runs_folder_into_the_home_and_nowhere_else(files: str, told: str):
    text = 'schema = 1\nname = "m"\ntitle = "M"\n[detect]\nexecutable = "m"\n[launch]\nargs = []\n'
    with pytest.raises(ProviderError) as caught:
        load_definition(f"{text}[auth.files]\n{files}\n", "x.toml")
    assert told in caught.value.message
