"""The rehearsal agent: a scripted CLI that talks to the coordinator through the same door as any other.

A real MCP client without a model: it reads its prompt on stdin, starts the stdio server that its MCP
configuration names, authenticates, follows `get_next_action` and does what its script says. For
demonstrations, dry runs and tests; it has no private way in. Standard library only.

The script is the first block fenced with three backticks and the word `rehearsal` in the prompt, JSON:
`{"steps": [{"do": "write", "path": "a.txt", "text": "…"}, …]}`, or `{"attempts": [{"steps": […]}, …]}`,
the last for all later attempts. `STEPS` lists what it can do. Without a script it writes a file, commits
it and reports success. Progress goes to stdout, a line a step; errors to stderr.

Exit status: 0 done, 1 crashed, 2 wrong script or arguments, 97 a call to the coordinator failed.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import itertools
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, cast

from aiagent_coordinator.rehearsal_talk import Talker

#: Longer than the bridge holds a call while the coordinator restarts (45 s).
CALL_SECONDS = 120.0
#: A command of the script; a stuck one ends the rehearsal, not the test that waits for it.
COMMAND_SECONDS = 600.0
#: What a child may take to end when its stdin closes.
CHILD_END_SECONDS = 5.0
#: More answers than any real task needs: a server that never says `exit` is a fault.
MAX_ACTIONS = 1000
EXIT_BAD_SCRIPT = 2
EXIT_CALL_FAILED = 97

_SCRIPT = re.compile(r"^```rehearsal[ \t]*\r?\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ATTEMPT = re.compile(r"^Attempt: (\d+)", re.MULTILINE)
_GIT = ("git", "-c", "user.name=Rehearsal", "-c", "user.email=rehearsal@localhost")
_MEGABYTE = 1_000_000

Json = dict[str, Any]


class BadScriptError(Exception):
    """The script cannot be followed; the message says where."""


class CallFailedError(Exception):
    """The coordinator did not answer, or refused."""


def _object(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


class Server:
    """The MCP server of the configuration, as a child speaking JSON lines on stdio."""

    def __init__(self, entry: Json) -> None:
        self._child = subprocess.Popen(
            [entry["command"], *entry.get("args", ())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **entry.get("env", {})},
        )
        self._buffer = b""
        self._ids = itertools.count(1)

    def open(self) -> None:
        """Shake hands and list the tools, as every client does."""
        client = {"name": "rehearsal", "version": "1"}
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        self._request("initialize", hello)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        self._request("tools/list", {})

    def call(self, tool: str, **arguments: object) -> Json:
        """Call a tool and return its answer."""
        result = self._request("tools/call", {"name": tool, "arguments": arguments})
        content: list[Json] = result.get("content") or []
        text = next((str(part.get("text", "")) for part in content), "")
        if result.get("isError"):
            raise CallFailedError(f"{tool}: {text}")
        structured = result.get("structuredContent")
        return _object(json.loads(text or "{}") if structured is None else structured)

    def close(self) -> None:
        """End the child as a client does: close its stdin, then be firm."""
        for stream in (self._child.stdin, self._child.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            self._child.wait(CHILD_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _request(self, method: str, params: Json) -> Json:
        number = next(self._ids)
        deadline = time.monotonic() + CALL_SECONDS
        self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        while True:
            message = self._receive(method, deadline)
            if message.get("id") != number or "method" in message:
                continue  # a notification, or a request that we do not serve
            if "error" in message:
                raise CallFailedError(f"{method}: {message['error']}")
            return message["result"]

    def _send(self, message: Json) -> None:
        stream = self._child.stdin
        try:
            if stream:
                stream.write(json.dumps(message).encode() + b"\n")
                stream.flush()
        except OSError as error:
            raise CallFailedError(f"the MCP server is gone: {error}") from error

    def _receive(self, method: str, deadline: float) -> Json:
        stream = self._child.stdout
        while stream and b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                raise CallFailedError(f"{method}: no answer within {CALL_SECONDS:.0f} s")
            chunk = os.read(stream.fileno(), 65_536)
            if not chunk:
                raise CallFailedError(f"{method}: the MCP server closed the connection")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return _object(json.loads(line))


@dataclass
class Agent:
    """What the agent knows while it works."""

    server: Server | None
    task: Json = field(default_factory=dict[str, Any])
    is_reported: bool = False

    def call(self, tool: str, **arguments: object) -> Json:
        """Call a tool; without a server every call fails."""
        if self.server is None:
            raise CallFailedError(f"{tool}: there is no MCP server")
        return self.server.call(tool, **arguments)

    def report(self, result: str, summary: str, *, with_evidence: bool = True) -> None:
        """Say how the task went; once."""
        if not self.is_reported:
            said: Json = {"result": result, "summary": summary}
            if self.task.get("acceptance") and with_evidence:
                said["evidence"] = [
                    {"criterion": number, "text": f"Rehearsed: {criterion}"}
                    for number, criterion in enumerate(self.task["acceptance"], 1)
                ]
            answer = self.call("report_completed", **said)
            self.is_reported = answer.get("accepted", True) is not False


def say(_agent: Agent, *, text: str) -> None:
    """Print a text."""
    print(text, flush=True)


def write(_agent: Agent, *, path: str, text: str) -> None:
    """Write a file, in place of what it holds."""
    _open(path, "w", text)


def append(_agent: Agent, *, path: str, text: str) -> None:
    """Add to the end of a file."""
    _open(path, "a", text)


def _open(path: str, mode: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, mode, encoding="utf-8", newline="") as file:
        file.write(text)


def commit(_agent: Agent, *, message: str = "Rehearsal") -> None:
    """Commit everything, as any CLI does; nothing to commit is said and no fault."""
    if _run(("git", "rev-parse", "--git-dir"), is_quiet=True) != 0:
        print("not a git repository: nothing committed", flush=True)
        return
    _must((*_GIT, "add", "--all"))
    if _run((*_GIT, "diff", "--cached", "--quiet"), is_quiet=True) == 0:
        print("nothing to commit", flush=True)
        return
    _must((*_GIT, "commit", "--quiet", "--message", message))


def run(_agent: Agent, *, argv: list[str]) -> None:
    """Run a command; a failure is said and no fault."""
    status = _run(tuple(argv))
    if status:
        print(f"{argv[0]} ended with {status}", file=sys.stderr, flush=True)


def _run(argv: tuple[str, ...], *, is_quiet: bool = False) -> int:
    sink = subprocess.DEVNULL if is_quiet else None
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=sink,
        stderr=sink,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    return done.returncode


def _must(argv: tuple[str, ...]) -> None:
    status = _run(argv)
    if status:
        sys.exit(f"rehearsal: {' '.join(argv)} ended with {status}")


def sleep(_agent: Agent, *, seconds: float) -> None:
    """Do nothing for a while."""
    time.sleep(seconds)


def progress(agent: Agent, *, value: int, message: str = "") -> None:
    """Report progress, 0 to 100."""
    agent.call("report_progress", progress=value, message=message)


def chatter(agent: Agent, *, calls: int = 1_000_000, seconds: float = 600.0) -> None:
    """Keep calling the coordinator, until that many calls or seconds are over."""
    deadline = time.monotonic() + seconds
    for number in range(calls):
        if time.monotonic() > deadline:
            return
        if number % 2:
            agent.call("get_next_action")
        else:
            progress(agent, value=number * 100 // calls, message=f"call {number}")


def report(
    agent: Agent, *, result: str = "success", summary: str = "Rehearsed.", evidence: bool = True
) -> None:
    """Report the task: success, failed or blocked; `evidence` false: with nothing to show for it."""
    agent.report(result, summary, with_evidence=evidence)


def ask(agent: Agent, *, text: str, options: tuple[str, ...] = ()) -> None:
    """Ask a person and say the answer; without one, commit and exit as every agent is told to."""
    for known in agent.task.get("answers") or ():
        if known.get("question") == text.strip():
            print(f"answer: {known.get('answer')}", flush=True)
            return
    heard = agent.call("ask_human", text=text, options=list(options))
    if heard.get("status") == "answered":
        print(f"answer: {heard.get('answer')}", flush=True)
        return
    if heard.get("status") == "asked":
        print(f"answer: {sys.stdin.readline().rstrip()}", flush=True)
        return
    print(f"no answer ({heard.get('status')}): committing and leaving", flush=True)
    commit(agent, message="Rehearse: waiting for an answer")
    sys.exit(0)


def fail_report(agent: Agent, *, summary: str = "It did not work.") -> None:
    """Report the task as failed."""
    agent.report("failed", summary)


def leave(_agent: Agent, *, code: int = 0) -> NoReturn:
    """Exit at once, without another word to the coordinator."""
    sys.exit(code)


def print_much(_agent: Agent, *, megabytes: float) -> None:
    """Print that much, in lines."""
    line = "All work and no play makes a dull rehearsal of everything there is to say.\n"
    block = line * 1000
    for _ in range(max(1, int(megabytes * _MEGABYTE / len(block)))):
        sys.stdout.write(block)
    sys.stdout.flush()


def long_line(_agent: Agent, *, megabytes: float) -> None:
    """Print one line that long."""
    sys.stdout.write("x" * int(megabytes * _MEGABYTE) + "\n")
    sys.stdout.flush()


def ignore_term(_agent: Agent) -> None:
    """Ignore SIGTERM from now on."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def spawn_child(_agent: Agent, *, seconds: float = 60.0, shape: str = "child") -> None:
    """Leave a process behind: a `child`, in its own `group` or `session`, a `daemon`, or `stubborn`."""
    nap = f"import time; time.sleep({float(seconds)})"
    if shape == "stubborn":
        nap = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {nap}"
    argv = [sys.executable, "-I", "-S", "-c", nap]
    match shape:
        case "child":
            subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        case "group":
            subprocess.Popen(argv, stdin=subprocess.DEVNULL, process_group=0)
        case "session" | "stubborn":
            subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
        case "daemon":
            # the one in between ends at once: nobody is its child's parent any more
            between = f"import subprocess; subprocess.Popen({argv!r}, start_new_session=True)"
            subprocess.run([*argv[:-1], between], stdin=subprocess.DEVNULL, check=True)
        case _:
            raise BadScriptError(f"unknown shape {shape!r} of a child")


def kill_self(_agent: Agent, *, signal: int = 9) -> None:
    """End by a signal."""
    os.kill(os.getpid(), signal)
    time.sleep(COMMAND_SECONDS)


def crash(_agent: Agent) -> NoReturn:
    """End with a traceback."""
    message = "the rehearsal crashes as its script says"
    raise RuntimeError(message)


def delegate(agent: Agent, *, tasks: list[Json], key: str = "rehearsal") -> None:
    """Have others do parts of the task: each with `local_id`, `title`, `description`, `assignee_id`."""
    agent.call("create_tasks_batch", tasks=tasks, batch_key=key)


def call(agent: Agent, *, tool: str, arguments: Json | None = None, fails: bool = False) -> None:
    """Call a tool and print its answer; with `fails` it must be refused, and the refusal is printed."""
    try:
        answer = agent.call(tool, **(arguments or {}))
    except CallFailedError as error:
        if not fails:
            raise
        print(f"refused: {error}", flush=True)
        return
    if fails:
        raise CallFailedError(f"{tool}: was not refused: {json.dumps(answer)}")
    print(f"{tool}: {json.dumps(answer)}", flush=True)


def hear(agent: Agent, *, action: str, seconds: float = 60.0) -> None:
    """Wait for a notification, and print what it says."""
    heard = Talker(agent.call).hear(action, seconds)
    if heard is None:
        raise CallFailedError(f"no notification {action!r} within {seconds:g} s")
    print(f"heard: {heard}", flush=True)


def take(agent: Agent) -> None:
    """Take over what other agents left for the task, and print it."""
    for left in agent.call("list_handoffs", task_id=agent.task.get("task_id"))["handoffs"]:
        taken = agent.call("take_handoff", handoff_id=left["handoff_id"])["handoff"]
        print(f"taken: {json.dumps(taken)}", flush=True)


def judge(agent: Agent, *, path: str, holds: str) -> None:
    """Judge a result: accept it when a file of its commit holds a text, else send it back."""
    commit = _object(agent.task.get("review")).get("commit")
    shown = subprocess.run(
        ("git", "show", f"{commit}:{path}"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    is_right = shown.returncode == 0 and holds in shown.stdout.decode("utf-8", "replace")
    verdict = ("accept", "As wanted.") if is_right else ("changes", f"{path} lacks {holds!r}")
    agent.call("review_task", verdict=verdict[0], comment=verdict[1])


def nothing(_agent: Agent) -> None:
    """What takes effect before the first step."""


#: What a script can say, and who does it. `no_auth` and `no_mcp` change how the agent begins: it
#: connects but never authenticates, or never connects.
STEPS: dict[str, Callable[..., None]] = {
    "say": say,
    "write": write,
    "append": append,
    "commit": commit,
    "run": run,
    "sleep": sleep,
    "delegate": delegate,
    "call": call,
    "judge": judge,
    "hear": hear,
    "take": take,
    "progress": progress,
    "chatter": chatter,
    "ask": ask,
    "report": report,
    "fail_report": fail_report,
    "exit": leave,
    "print": print_much,
    "long_line": long_line,
    "ignore_term": ignore_term,
    "spawn_child": spawn_child,
    "kill_self": kill_self,
    "crash": crash,
    "no_auth": nothing,
    "no_mcp": nothing,
}
# Other words for the same, as the tools and people say them.
_SAME = {"content": "text", "percent": "value"}


@dataclass(frozen=True)
class Step:
    """One line of a script: what to do, with which arguments."""

    name: str
    arguments: Json

    def __str__(self) -> str:
        first = next(iter(self.arguments.values()), "")
        return f"{self.name} {str(first).splitlines()[0][:60] if first else ''}".strip()


def script_of(prompt: str, attempt: int) -> tuple[Step, ...]:
    """The steps that a prompt prescribes for an attempt, from 1.

    Raises:
        BadScriptError: the block is no script; the message names the step.
    """
    block = _SCRIPT.search(prompt)
    if block is None:
        return _default_script()
    try:
        script: Any = json.loads(block[1])
        if "attempts" in script:
            script = script["attempts"][min(attempt, len(script["attempts"])) - 1]
        steps: list[Any] = list(script["steps"])
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise BadScriptError(f"the rehearsal block is no script: {error!r}") from error
    return tuple(_step(raw, number) for number, raw in enumerate(steps, 1))


def _default_script() -> tuple[Step, ...]:
    return (
        Step("append", {"path": "rehearsal.md", "text": "The rehearsal agent was here.\n"}),
        Step("commit", {"message": "Rehearse"}),
    )


def _step(raw: object, number: int) -> Step:
    """Read `{"do": "write", …}`, or shorter `{"write": {…}}`, `{"say": "…"}`, `{"crash": true}`."""
    given = dict(_object(raw))
    value: object = None
    name = str(given.pop("do", ""))
    if not name and len(given) == 1:
        name, value = given.popitem()
    name = name.replace("-", "_")
    if name not in STEPS:
        raise BadScriptError(f"step {number}: unknown step {name!r}; known: {', '.join(STEPS)}")
    parameters = list(inspect.signature(STEPS[name]).parameters)[1:]
    if isinstance(value, dict):
        given = _object(cast("object", value))
    elif parameters and value is not None and value is not True:
        given = {parameters[0]: value}
    arguments = {_SAME.get(key, key): inner for key, inner in given.items()}
    try:
        inspect.signature(STEPS[name]).bind(None, **arguments)
    except TypeError as error:
        raise BadScriptError(f"step {number} ({name}): {error}") from error
    return Step(name, arguments)


def perform(agent: Agent, steps: tuple[Step, ...]) -> None:
    """Do the steps in order, a line of output for each."""
    for step in steps:
        print(f"* {step}", flush=True)
        STEPS[step.name](agent, **step.arguments)


def follow(agent: Agent, prompt: str) -> None:
    """Do what the coordinator says until it says `exit`.

    Raises:
        CallFailedError: a call failed, or the coordinator never comes to an end.
    """
    is_worked, talker = False, Talker(agent.call)
    for _ in range(MAX_ACTIONS):
        answer = agent.call("get_next_action")
        action = answer.get("action")
        match action:
            case "get_task":
                agent.task = agent.call("get_my_task").get("task") or {}
            case "wait" if answer.get("state") == "waiting_for_workers":
                agent.call("logout")
                return
            case _ if manage(agent, answer) or talker.follow(answer):
                pass
            case "work" | "report_completion" | "create_subtasks" | "review":
                if not is_worked and not (action == "report_completion" and "progress" in answer):
                    perform(agent, script_of(prompt, attempt_of(agent.task, prompt)))
                    is_worked = True
                if action not in {"create_subtasks", "review"}:
                    agent.report("success", "Rehearsed.")
            case "wait":
                time.sleep(min(float(answer.get("wait_seconds", 1)), CHILD_END_SECONDS))
            case "exit" | "logout":
                agent.call("logout")
                return
            case _:
                raise CallFailedError(f"get_next_action: unknown action {action!r}")
    raise CallFailedError(f"get_next_action: no exit after {MAX_ACTIONS} actions")


def manage(agent: Agent, answer: Json) -> bool:
    """Do what a manager is told to, as simply as it can be done; False when it is something else."""
    parts: list[Json] = answer.get("subtasks") or []
    match answer.get("action"):
        case "situational_awareness":
            agent.call("select_action", action="wait")
        case "completion_check":
            agent.call("select_action", action="complete")
        case "assign":
            free = [one for one in parts if one.get("standing") == "unassigned"]
            workers: list[Json] = answer.get("available_workers") or []
            for part, worker in zip(free, itertools.cycle(workers), strict=False):
                agent.call("assign_task", task_id=part["id"], assignee_id=worker["id"])
        case "review_and_resolve_blocks" | "dependency_deadlock" | "block_subtask":
            for part in parts:
                if part.get("standing") in {"blocked", "waiting", "unassigned"}:
                    agent.call("update_task_status", task_id=part["id"], status="cancelled")
        case _:
            return False
    return True


def attempt_of(task: Json, prompt: str) -> int:
    """Which attempt this is: as the task says, else as the prompt says, else the first."""
    said = _ATTEMPT.search(prompt)
    return int(task.get("attempt") or (said[1] if said else 1))


def rehearse(prompt: str, mcp_config: str) -> None:
    """One whole run of the agent."""
    steps = script_of(prompt, attempt_of({}, prompt))
    names = {step.name for step in steps}
    if "no_mcp" in names:
        perform(Agent(None), steps)
        return
    with _connected(mcp_config) as server:
        agent = Agent(server)
        if "no_auth" in names:
            perform(agent, steps)
            return
        agent.call("authenticate")
        follow(agent, prompt)


@contextlib.contextmanager
def _connected(mcp_config: str) -> Generator[Server]:
    try:
        with open(mcp_config, encoding="utf-8") as file:
            entries: dict[str, Json] = json.load(file)["mcpServers"]
        # servers of the user's may stand beside ours
        entry = entries.get("coord") or next(iter(entries.values()))
    except (OSError, ValueError, LookupError, StopIteration) as error:
        raise BadScriptError(f"--mcp-config {mcp_config}: names no server: {error!r}") from error
    server = Server(entry)
    try:
        server.open()
        yield server
    finally:
        server.close()


def main() -> int:
    """Read prompt and arguments, rehearse, and say how it ended."""
    parser = argparse.ArgumentParser(prog="rehearsal", description="The scripted agent.")
    parser.add_argument("--mcp-config", default="", help="file with the MCP servers to use")
    parser.add_argument("--prompt-file", default="", help="read the prompt here instead of stdin")
    session = parser.add_mutually_exclusive_group()
    session.add_argument("--session-id", default="", help="what to call the session")
    session.add_argument("--resume", default="", help="go on with this session")
    arguments = parser.parse_args()
    if arguments.resume:
        print(f"resumed: {arguments.resume}", flush=True)
    file = arguments.prompt_file
    data = Path(file).read_bytes() if file else sys.stdin.buffer.read()
    prompt = data.decode("utf-8", "replace")
    try:
        rehearse(prompt, arguments.mcp_config)
    except BadScriptError as error:
        print(f"rehearsal: {error}", file=sys.stderr, flush=True)
        return EXIT_BAD_SCRIPT
    except CallFailedError as error:
        print(f"rehearsal: call failed: {error}", file=sys.stderr, flush=True)
        return EXIT_CALL_FAILED
    print("done", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
