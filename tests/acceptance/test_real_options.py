"""What the options of the configuration do to the real CLIs: only when asked for, as `test_real_clis`.

    AIAGENT_REAL_CLIS=1 AIAGENT_CLI_CACHE=~/.cache/aiagent-clis pytest tests/acceptance/test_real_options.py -s

Copilot, Cline and Vibe are driven too where `AIAGENT_REAL_ENDPOINTS` names their folders, as for
`test_real_endpoints`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator.providers.catalog import load_catalog
from support.clis import MODEL, WANTED, Model, ended, model, output_of, programs
from support.house import House, house
from support.repo import git

PROGRAMS = os.environ.get("AIAGENT_REAL_ENDPOINTS", "")
MORE = [
    name
    for name in ("copilot", "cline", "vibe")
    if any((Path(folder) / name).exists() for folder in PROGRAMS.split(os.pathsep) if folder)
]
__test__ = bool(WANTED or MORE)
pytestmark = [pytest.mark.needs("node"), pytest.mark.timeout(600)]

Body = dict[str, Any]
KEY = "key-of-nobody"
BRANCH = "seen-by-a-model"
BEGIN = [{"tool": "authenticate"}, {"tool": "get_next_action"}, {"tool": "get_my_task"}]
WRITE = {"write": "model.txt", "text": "written by a model\n"}
#: No CLI takes it for a command that only looks.
SHELL = {"shell": f"git update-ref refs/heads/{BRANCH} HEAD"}
END = [
    {"tool": "get_next_action"},
    {"tool": "report_completed", "arguments": {"result": "success", "summary": "as told"}},
    {"tool": "get_next_action"},
]
USUAL = [*BEGIN, {"tool": "get_next_action"}, WRITE, *END]
COMMANDS = [*BEGIN, {"tool": "get_next_action"}, SHELL, *END]
WORDS = [{"say": "Nothing is to be done."}]


@pytest.fixture(scope="session")
def clis() -> Iterator[Path]:
    """The folder with the programs."""
    if WANTED:
        yield from programs()
    else:
        yield Path("/nowhere")


@pytest.fixture(autouse=True)
def _in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IS_SANDBOX", "1")  # or claude refuses `bypass` to root


@dataclass
class Driven:
    """One run of a CLI, and what its model was asked."""

    home: House
    run: dict[str, Any]
    requests: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def first(self) -> Body:
        """The first request that offered tools."""
        return next(one["body"] for one in self.requests if one["body"].get("tools"))

    def offered(self) -> list[str]:
        """The names of the tools in it."""
        tools: list[dict[str, Any]] = self.first["tools"]
        several = [each for tool in tools for each in tool.get("functionDeclarations", [tool])]
        return [str(each.get("name") or each.get("function", {}).get("name")) for each in several]

    def told(self) -> str:
        return output_of(self.home, self.run)[:6000]


def _sent_to(name: str, served: Model) -> dict[str, Any]:
    """How the configuration sends a CLI to the scripted model; cline keeps that in a file of its login."""
    if name == "cline":
        return {"cli_args": ["-P", "openai-compatible"]}
    path = load_catalog().get(name).options["base_url"].path
    return {"base_url": served.url + path, "api_key": KEY}


@contextmanager
def driven(
    folder: Path,
    name: str,
    clis: Path,
    plan: list[dict[str, Any]],
    *words: str,
    env: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Generator[Driven]:
    """Have a CLI do one task with these options. `@URL` in `env` is the model, `@MARK` in `files` a path."""
    told, kept = folder / "plan.json", folder / "requests.jsonl"
    told.write_text(json.dumps(plan))
    kept.touch()
    with (
        model(folder, "--plan", str(told), "--keep", str(kept), *words) as served,
        house(folder, i_understand_unsandboxed=True) as home,
    ):
        home.env["PATH"] = os.pathsep.join(filter(None, (str(clis), PROGRAMS, os.environ["PATH"])))
        home.env |= {key: value.replace("@URL", served.url) for key, value in (env or {}).items()}
        if name == "cline":
            login = ["-p", "openai-compatible", "-k", KEY, "-m", MODEL, "-b", f"{served.url}/v1"]
            variables = {**os.environ, **home.env}
            subprocess.run(["cline", "auth", *login], env=variables, timeout=60, check=True)
        for path, text in (files or {}).items():
            (home.repo / path).parent.mkdir(parents=True, exist_ok=True)
            (home.repo / path).write_text(text.replace("@MARK", str(home.root / "mark")))
        if files:
            git(home.repo, "add", "-A")
            git(home.repo, "commit", "-q", "-m", "configuration of a program")
        can = load_catalog().get(name).can.approval
        usual = {
            "model": f"mine/{MODEL}" if name == "opencode" else MODEL,
            "approval": "edits" if "edits" in can else "bypass",
        }
        entry = {} if env else _sent_to(name, served)
        home.write(
            agents={"worker": {"provider": name, **usual, **(options or {})}},
            ai_providers={name: entry},
        )
        home.ready()
        task = home.add("Write a file", "Write model.txt.", max_attempts="1")
        run = ended(home, task["id"])
        yield Driven(home, run, [json.loads(line) for line in kept.read_text("utf-8").splitlines()])


@dataclass(frozen=True)
class Seen:
    """What of an option the model gets to see."""

    options: dict[str, Any]
    #: From the first request to what it must hold; a tool that is not offered any more.
    shown: dict[str, Callable[[Body], Any]]
    expected: dict[str, Any]
    absent: str = ""


def _deep(*keys: str) -> Callable[[Body], Any]:
    def found(body: Body) -> Any:
        value: dict[str, Any] = body
        for key in keys:
            value = value.get(key) or {}
        return value or None

    return found


_OF_CHAT = {"max_tokens": _deep("max_tokens"), "effort": _deep("reasoning_effort")}
#: Models that these CLIs know, where only of those they know what effort is.
SEEN = {
    "claude": Seen(
        {
            "model": "claude-sonnet-4-6",
            "effort": "low",
            "max_output_tokens": 1234,
            "tools_denied": ["WebFetch"],
        },
        {
            "max_tokens": _deep("max_tokens"),
            "effort": _deep("output_config", "effort"),
            "model": _deep("model"),
        },
        {"max_tokens": 1234, "effort": "low", "model": "claude-sonnet-4-6"},
        "WebFetch",
    ),
    "codex": Seen(
        {"model": "gpt-5.1-codex", "effort": "high"},
        {"effort": _deep("reasoning", "effort"), "model": _deep("model")},
        {"effort": "high", "model": "gpt-5.1-codex"},
    ),
    "gemini": Seen({"tools_denied": ["google_web_search"]}, {}, {}, "google_web_search"),
    "opencode": Seen(
        {
            "model": "anthropic/claude-sonnet-4-5",
            "effort": "high",
            "max_output_tokens": 1234,
            "tools_denied": ["webfetch"],
        },
        {**_OF_CHAT, "model": _deep("model")},
        {"max_tokens": 1234, "effort": "high", "model": "claude-sonnet-4-5"},
        "webfetch",
    ),
    "qwen": Seen(
        {"max_output_tokens": 1234, "tools_denied": ["notebook_edit"]},
        {"max_tokens": _deep("max_tokens"), "model": _deep("model")},
        {"max_tokens": 1234, "model": MODEL},
        "notebook_edit",
    ),
    "copilot": Seen(
        {"max_output_tokens": 1234, "effort": "high"},
        {**_OF_CHAT, "model": _deep("model")},
        {"max_tokens": 1234, "effort": "high", "model": MODEL},
    ),
    "cline": Seen(
        {"effort": "high"},
        {"effort": _OF_CHAT["effort"], "model": _deep("model")},
        {"effort": "high", "model": MODEL},
    ),
    "vibe": Seen({"tools_denied": ["todo"]}, {"model": _deep("model")}, {"model": MODEL}, "todo"),
}


@pytest.mark.parametrize("name", [name for name in SEEN if name in (*WANTED, *MORE)])
def test_a_model_gets_to_see_what_its_agent_was_told(name: str, short_dir: Path, clis: Path):
    case = SEEN[name]
    without = {"model": case.options["model"]} if "model" in case.options else {}
    (short_dir / "with").mkdir()
    (short_dir / "bare").mkdir()
    with driven(short_dir / "with", name, clis, WORDS, options=case.options) as told:
        shown = {what: look(told.first) for what, look in case.shown.items()}
        offered = told.offered()
        assert shown == case.expected, told.told()
    with driven(short_dir / "bare", name, clis, WORDS, options=without) as bare:
        usual = {what: look(bare.first) for what, look in case.shown.items()}
        assert not [key for key in usual if key != "model" and usual[key] == shown[key]]
        assert not case.absent or (case.absent in bare.offered() and case.absent not in offered)
    print(f"\n| {name} | {sorted(case.options)} | {shown} {case.absent and 'not ' + case.absent} |")


#: A rule for the one command that the plan runs.
ALLOWED = {
    "claude": "Bash(git update-ref *)",
    "gemini": "run_shell_command(git update-ref)",
    "opencode": "bash",
    "qwen": "run_shell_command(git update-ref)",
    "copilot": "shell(git:*)",
}


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("name", [name for name in ALLOWED if name in (*WANTED, *MORE)])
def test_a_command_runs_under_edits_when_tools_allowed_names_it(
    name: str, allowed: bool, short_dir: Path, clis: Path
):
    options = {"tools_allowed": [ALLOWED[name]]} if allowed else {}
    with driven(short_dir, name, clis, COMMANDS, options=options) as told:
        assert bool(git(told.home.repo, "branch", "--list", BRANCH)) == allowed, told.told()


DENIED = {
    "claude": "Bash(git update-ref *)",
    "gemini": "run_shell_command",
    "opencode": "bash",
    "qwen": "run_shell_command(git update-ref)",
    "copilot": "shell(git:*)",
    "vibe": "bash",
}


@pytest.mark.parametrize("denied", [True, False])
@pytest.mark.parametrize("name", [name for name in DENIED if name in (*WANTED, *MORE)])
def test_a_command_that_tools_denied_names_is_refused_even_where_all_is_approved(
    name: str, denied: bool, short_dir: Path, clis: Path
):
    options = {"approval": "bypass", **({"tools_denied": [DENIED[name]]} if denied else {})}
    with driven(short_dir, name, clis, COMMANDS, options=options) as told:
        assert bool(git(told.home.repo, "branch", "--list", BRANCH)) != denied, told.told()


@pytest.mark.parametrize(
    "name", [name for name in ("claude", "gemini", "qwen", "vibe") if name in (*WANTED, *MORE)]
)
def test_a_run_ends_at_its_turn_limit_and_says_so(name: str, short_dir: Path, clis: Path):
    with driven(short_dir, name, clis, USUAL, options={"max_turns": 3}) as told:
        assert (told.run["outcome"], told.run["reason"]) == ("failed", "turn_limit"), told.told()
        assert len(told.requests) == 3


#: Vibe knows the prices that its own configuration says; of a `base_url` it knows none.
PRICED = {
    "MISTRAL_API_KEY": KEY,
    "VIBE_PROVIDERS": '[{"name":"mine","api_base":"@URL/v1","api_key_env_var":"MISTRAL_API_KEY",'
    '"backend":"generic"}]',
    "VIBE_MODELS": f'[{{"name":"{MODEL}","provider":"mine","alias":"{MODEL}","input_price":1e6}}]',
}


@pytest.mark.parametrize(
    ("name", "env"),
    [one for one in (("claude", None), ("vibe", PRICED)) if one[0] in (*WANTED, *MORE)],
)
def test_a_run_ends_at_its_budget_and_says_so(
    name: str, env: dict[str, str] | None, short_dir: Path, clis: Path
):
    plan = [*BEGIN, {"tool": "get_next_action"}, {**WRITE, "used": 1_000_000}, *END]
    plan = USUAL if env else plan
    with driven(short_dir, name, clis, plan, env=env, options={"max_budget": 0.5}) as told:
        assert (told.run["outcome"], told.run["reason"]) == ("failed", "cost_limit"), told.told()


@pytest.mark.parametrize(
    "name", [name for name in ("claude", "opencode", "qwen") if name in WANTED]
)
def test_a_request_that_hangs_is_given_up_after_its_time(name: str, short_dir: Path, clis: Path):
    hang = ("--fault", "hang", "--after", "3", "--times", "1")
    with driven(short_dir, name, clis, USUAL, *hang, options={"request_timeout": 3}) as told:
        ended_so = (told.run["outcome"], told.run["reason"])
        # its own second try, or a failure with its name: the task is tried again, and loses no attempt
        assert ended_so in {("succeeded", None), ("failed", "network")}, told.told()


@pytest.mark.skipif("codex" not in WANTED, reason="codex is not asked for")
@pytest.mark.parametrize(
    ("approval", "mode", "may_write"),
    [("bypass", "read-only", False), ("ask", "workspace-write", True)],
)
def test_codex_works_in_the_sandbox_that_was_chosen(
    approval: str, mode: str, may_write: bool, short_dir: Path, clis: Path
):
    options = {"approval": approval, "cli_sandbox": mode}
    with driven(short_dir, "codex", clis, USUAL, options=options) as told:
        files = git(told.home.repo, "ls-tree", "--name-only", told.run["commit"] or "main")
        assert ("model.txt" in files) == may_write, told.told()


TOUCH = {"command": "touch", "args": ["@MARK"]}
HOOKS = {"SessionStart": [{"hooks": [{"type": "command", "command": "touch @MARK"}]}]}
#: What a project holds that starts something.
HELD = {
    "claude": {".claude/settings.json": json.dumps({"hooks": HOOKS})},
    "gemini": {".gemini/settings.json": json.dumps({"mcpServers": {"mine": TOUCH}})},
    "qwen": {".qwen/settings.json": json.dumps({"hooks": HOOKS})},
    "opencode": {
        "opencode.json": json.dumps(
            {"mcp": {"mine": {"type": "local", "command": ["touch", "@MARK"], "enabled": True}}}
        )
    },
    "vibe": {
        ".vibe/config.toml": '[[mcp_servers]]\nname="mine"\ntransport="stdio"\ncommand="touch"\n'
        'args=["@MARK"]\n'
    },
}


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("name", [name for name in HELD if name in (*WANTED, *MORE)])
def test_what_a_project_holds_is_started_only_where_that_is_wanted(
    name: str, wanted: bool, short_dir: Path, clis: Path
):
    options = {"project_config": True} if wanted else {}
    with driven(short_dir, name, clis, USUAL, files=HELD[name], options=options) as told:
        assert told.run["outcome"] == "succeeded", told.told()
        assert (told.home.root / "mark").exists() == wanted, told.told()
