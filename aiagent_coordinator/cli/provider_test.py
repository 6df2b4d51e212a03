"""`provider test`: the real program does a small task in a folder of its own, as its runs do."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from aiagent_coordinator.cli import demo_process, options, output
from aiagent_coordinator.cli.connect import Place, board, call
from aiagent_coordinator.errors import CoordinatorError, ValidationError
from aiagent_coordinator.messages import text
from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.quota import DEFAULT_ACCOUNT

if TYPE_CHECKING:
    from aiagent_coordinator.config import Loaded
    from aiagent_coordinator.providers.definition import Definition

#: A start takes seconds, a model's few turns more; a CLI that tries again by itself takes minutes.
RUN_SECONDS = 300.0
POLL_SECONDS = 0.2
#: The scripted model is there within a second.
MODEL_SECONDS = 20.0
#: Carries the key of the configuration to our own program; no CLI is ever given a name of ours.
_KEY = "AIAGENT_CANARY_KEY"
_NOBODYS_KEY = "key-of-nobody"
_MODEL = "scripted-model"
_AGENT, _PROJECT = "canary", "canary"
_TASK = {
    "project_id": _PROJECT,
    "agent_id": _AGENT,
    "title": "Say that you are here",
    "description": "Change nothing. Report success with a summary of three words.",
    "max_attempts": 1,
}
_PLAN: list[dict[str, Any]] = [
    *({"tool": "authenticate"}, {"tool": "get_next_action"}, {"tool": "get_my_task"}),
    {"tool": "get_next_action"},
    {"tool": "report_completed", "arguments": {"result": "success", "summary": "here I am"}},
    {"tool": "get_next_action"},
]
#: What has to happen, by what of the run says that it did.
_STEPS = (
    ("started", "started_at"),
    ("authenticated", "authenticated_at"),
    ("reported", "reported_at"),
)
#: What of a provider's settings is no part of the trial: it tries the account that is logged in.
_NOT_TRIED = {"api_key", "models", "accounts", "accounts_order", "switch_accounts"}
#: What of a run explains it.
_TOLD = ("outcome", "reason", "exit_code", "error", "usage")


@click.command(help=text("help.provider.test"))
@click.argument("name")
@click.option("--scripted", is_flag=True, help=text("help.option.scripted"))
@click.option("--model", metavar="NAME", help=text("help.option.test_model"))
@click.option("--keep", is_flag=True, help=text("help.option.test_keep"))
@options.as_json
@options.common
def test(name: str, scripted: bool, model: str | None, keep: bool, as_json: bool) -> int:
    """Try one provider; exit with 1 when it does not come through."""
    from aiagent_coordinator.cli.provider import look

    known = look([name], asks_login=False)
    definition = known.catalog.get(name)
    found = known.rows()[0]
    if found["path"] is None:
        hint = text("doctor.cli_fix", name=name)
        raise ValidationError(text("provider.test.absent", title=definition.title), hint=hint)
    canary = Canary(known.loaded, definition, model, Path(tempfile.mkdtemp(prefix="aac-test-")))
    try:
        if not as_json:
            output.talk(
                text("provider.test.begun", title=definition.title, version=found["version"])
            )
        with scripted_model(canary) if scripted else contextlib.nullcontext():
            answer = canary.fly(_silent if as_json else _tell_step)
    finally:
        if not keep:
            shutil.rmtree(canary.folder, ignore_errors=True)
    answer = {**answer, "provider": name, "version": found["version"], "scripted": scripted}
    if keep:
        answer["folder"] = str(canary.folder)
    if answer["ok"] and not scripted:
        _tell_logged_in(name)
    _tell(answer, as_json=as_json)
    return 0 if answer["ok"] else 1


def _tell_logged_in(name: str) -> None:
    """Let the board start again what waited for this login, where a board answers."""
    arguments = {"provider": name, "account": DEFAULT_ACCOUNT, "logins_only": True}
    with contextlib.suppress(CoordinatorError, OSError):
        call(options.current(), "clear_limits", **arguments)


@dataclass
class Canary:
    """One flight: a server, a loop and one agent, in a folder of their own."""

    loaded: Loaded
    definition: Definition
    model: str | None
    folder: Path
    #: In place of what the settings say.
    entry: dict[str, Any] = field(default_factory=dict[str, Any])
    key: str | None = None
    is_scripted: bool = False

    @property
    def place(self) -> Place:
        """Where its server is."""
        return Place(
            self.folder / "canary.yaml", StateDir(self.folder / "state"), self.folder / "s"
        )

    def fly(self, tell: Callable[[str], None]) -> dict[str, Any]:
        """Start everything, do the task, end everything; each step is told when it is done."""
        log = self.folder / "canary.log"
        text_of = yaml.safe_dump(self._settings(), sort_keys=False)
        (self.folder / "canary.yaml").write_text(text_of, "utf-8")
        key = {_KEY: self.key} if self.key else {}
        began = time.monotonic()
        daemon = demo_process.start(self.folder / "canary.yaml", log, key)
        run: dict[str, Any] = {}
        try:
            demo_process.wait_ready(daemon, self.place, log)
            run = self._run(tell)
        finally:
            demo_process.stop(daemon, self.place, kill=run.get("phase") != "ended")
        done = _done(run)
        steps = {name: name in done for name, _ in _STEPS}
        return {
            "ok": all(steps.values()) and run.get("outcome") == "succeeded",
            "seconds": round(time.monotonic() - began, 1),
            "steps": steps,
            **{name: run.get(name) for name in _TOLD},
            "said": self._said(run),
        }

    def _settings(self) -> dict[str, Any]:
        settings = self.loaded.settings
        given = settings.ai_providers.get(self.definition.name)
        entry: dict[str, Any] = {}
        if given is not None:
            entry = given.model_dump(mode="json", exclude_unset=True, exclude=_NOT_TRIED)
            if given.api_key is not None:
                self.key = self.key or given.api_key.get_secret_value()
        entry |= self.entry
        if self.key:
            entry["api_key"] = f"${{{_KEY}}}"
        can = self.definition.can.approval
        approval = next(mode for mode in ("ask", "edits", "bypass") if mode in can)
        agent = {"provider": self.definition.name, "approval": approval}
        if self.model:
            agent["model"] = self.model
        shut = {"sandbox": settings.sandbox, "sandbox_network": settings.sandbox_network}
        # a scripted model asks for nothing but our own tools
        open_to_all = self.is_scripted or settings.i_understand_unsandboxed
        return {
            "state_dir": str(self.folder / "state"),
            "socket": str(self.folder / "s"),
            "i_understand_unsandboxed": open_to_all,
            **({} if self.is_scripted else shut),
            "agents": {_AGENT: agent},
            "ai_providers": {self.definition.name: entry} if entry else {},
            "projects": [{"id": _PROJECT, "workspace": "scratch"}],
        }

    def _run(self, tell: Callable[[str], None]) -> dict[str, Any]:
        deadline = time.monotonic() + RUN_SECONDS
        told: set[str] = set()
        with board(self.place) as client:
            task = client.call("create_task", _TASK)["task"]
            run: dict[str, Any] = {}
            while time.monotonic() < deadline:
                runs = client.call("list_runs", {"task_id": task["id"]})["runs"]
                run = runs[0] if runs else {}
                for name in _done(run):
                    if name not in told:
                        told.add(name)
                        tell(name)
                if run.get("phase") == "ended":
                    break
                time.sleep(POLL_SECONDS)
            return client.call("get_run", {"run_id": run["id"]})["run"] if run else {}

    def _said(self, run: dict[str, Any]) -> str:
        """The last words of the program's readable log, secrets masked by who wrote it."""
        try:
            lines = Path(run["log_path"]).read_text("utf-8", "replace").splitlines()
        except (KeyError, TypeError, OSError):
            return ""
        return "\n".join(line[:500] for line in lines[-8:])


@contextlib.contextmanager
def scripted_model(canary: Canary) -> Generator[None]:
    """Serve a scripted model, and send the canary's program to it.

    Raises:
        ValidationError: this program cannot be sent anywhere.
    """
    from aiagent_coordinator.providers import options as known

    definition = canary.definition
    if "base_url" not in known.supported(definition):
        raise ValidationError(
            text("provider.test.no_endpoint", title=definition.title),
            hint=text("provider.test.no_endpoint_hint"),
        )
    (canary.folder / "plan.json").write_text(json.dumps(_PLAN), "utf-8")
    log, said = canary.folder / "model.jsonl", canary.folder / "port"
    log.touch()
    words = [sys.executable, "-P", "-m", "aiagent_coordinator.scripted_model", str(log)]
    words += ["--plan", str(canary.folder / "plan.json"), "--until-stdin-closes"]
    writing = os.O_WRONLY | os.O_CREAT
    # it ends with us, however we end
    theirs, lifeline = os.pipe()
    pid = os.posix_spawn(
        sys.executable,
        words,
        dict(os.environ),
        file_actions=[
            (os.POSIX_SPAWN_DUP2, theirs, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(said), writing, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, str(canary.folder / "model.err"), writing, 0o600),
        ],
        setpgroup=0,
    )
    os.close(theirs)
    try:
        url = f"http://127.0.0.1:{_port(said)}"
        option = definition.options["base_url"]
        canary.entry = {"base_url": url + option.path}
        canary.key = _NOBODYS_KEY
        canary.is_scripted = True
        vendor = "canary/" if "{model_vendor}" in str(option.settings) else ""
        canary.model = f"{vendor}{_MODEL}"
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(lifeline)


def _port(file: Path) -> int:
    deadline = time.monotonic() + MODEL_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            told = file.read_text("ascii")
            if told.endswith("\n"):
                return int(told)
        time.sleep(POLL_SECONDS / 10)
    raise CoordinatorError(text("provider.test.no_model"))


def _done(run: dict[str, Any]) -> tuple[str, ...]:
    return tuple(name for name, known in _STEPS if run.get(known))


def _silent(_: str) -> None:
    """Tell nobody."""


def _tell_step(name: str, level: str = "ok") -> None:
    output.result(f"{text(f'doctor.level.{level}'):<7}  {text(f'provider.test.{name}')}")
    output.flush()


def _tell(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.json_result(answer)
        return
    for name, done in answer["steps"].items():
        if not done:
            _tell_step(name, "fault")
    key = "provider.test.ok" if answer["ok"] else "provider.test.failed"
    reason = answer["reason"] or answer["error"] or answer["outcome"] or "?"
    output.result(text(key, seconds=answer["seconds"], reason=reason))
    if not answer["ok"] and answer["said"]:
        output.talk(answer["said"])
    if "folder" in answer:
        output.talk(text("demo.kept", path=answer["folder"]))
