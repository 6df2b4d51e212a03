"""What the program of one account finds of the logins of others, inside a sandbox and without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.house import House, house

BOTH = [
    pytest.param("landlock", marks=pytest.mark.needs("landlock")),
    pytest.param("bwrap", marks=pytest.mark.needs("bwrap")),
]
#: Tries to read each login that there is, and says which it could.
READER = """\
#!/bin/sh
case " $* " in *" -p "*) ;; *) exit 0 ;; esac
for file in {files}; do
  if cat "$file" >/dev/null 2>&1; then echo "read $file"; fi
done
echo "config ${{XDG_CONFIG_HOME:-none}}"
"""
ORDER = ("first", "second", "third")


def settle(home: House, sandbox: str) -> dict[str, Path]:
    """A program with three accounts and the login of the person; gives each one's file."""
    root = home.root / "home"
    logins = {
        "": root / ".claude" / "login.json",
        "first": root / ".claude-first" / "login.json",
        "second": root / ".claude-second" / "login.json",
        "third": home.root / "third" / ".claude" / "login.json",
    }
    for file in logins.values():
        file.parent.mkdir(parents=True)
        file.write_text("{}")
    program = home.root / "reader"
    program.write_text(READER.format(files=" ".join(map(str, logins.values()))))
    program.chmod(0o755)
    accounts: dict[str, Any] = {
        "first": {"env": {"CLAUDE_CONFIG_DIR": str(logins["first"].parent)}},
        "second": {"env": {"CLAUDE_CONFIG_DIR": str(logins["second"].parent)}},
        "third": {"home": str(home.root / "third")},
    }
    entry = {
        "like": "claude",
        "cli_command": str(program),
        "accounts": accounts,
        "accounts_order": list(ORDER),
        "switch_accounts": "on_limit",
    }
    home.write(
        ai_providers={"reader": entry},
        agents={"worker": {"provider": "reader", "sandbox": sandbox}},
        i_understand_unsandboxed=True,
    )
    return logins


def of_accounts(home: House) -> dict[str, list[str]]:
    """What the program of each account said, one after the other."""
    said: dict[str, list[str]] = {}
    for account in ORDER:
        run = home.last(home.add(account, max_attempts="1")["id"])
        assert run["account"] == account, (run, home.log_text())
        said[account] = (home.state / "run" / run["id"] / "out").read_text().splitlines()
        home.ask("set_limit", provider="reader", account=account)
    return said


@pytest.mark.parametrize("sandbox", BOTH)
def test_the_program_of_an_account_in_a_sandbox_sees_the_login_of_no_other(
    sandbox: str, short_dir: Path
):
    with house(short_dir) as home:
        logins = settle(home, sandbox)
        home.ready()
        said = of_accounts(home)
        for account in ORDER:
            reads = [line for line in said[account] if line.startswith("read ")]
            assert reads == [f"read {logins[account]}"], account
        home.down()


def test_an_account_with_a_home_of_its_own_has_its_folders_there_too(short_dir: Path):
    with house(short_dir) as home:
        settle(home, "none")
        home.ready()
        said = of_accounts(home)
        assert said["first"][-1] == f"config {home.env['XDG_CONFIG_HOME']}"
        assert said["third"][-1] == "config none"
        home.down()
