"""The catalogue: every sentence a person reads, by key, rendered where it is shown."""

from __future__ import annotations

_ENGLISH: dict[str, str] = {
    # help of commands
    "help.main": "Supervise AI coding CLIs and coordinate them over MCP.\n\n"
    "Without a command: run server and loop in the foreground.",
    "help.serve": "Run the server alone: the board, the store, the tools.",
    "help.coordinate": "Run the loop alone, against a server that already runs.",
    "help.demo": "Run one task through everything, offline, in a folder of its own.",
    "help.task": "Put work on the board and look at it.",
    "help.task.add": "Put a task on the board.",
    "help.task.list": "List tasks, oldest first.",
    "help.task.show": "Show one task. ID may be the beginning of an id.",
    "help.task.cancel": "Cancel a task; a run of it is stopped. ID may be the beginning of an id.",
    "help.run": "Look at runs: one run is one attempt at a task.",
    "help.run.list": "List runs, oldest first.",
    "help.run.show": "Show one run.",
    "help.status": "Say whether the server runs, and what it does.",
    "help.stop": "Stop server and loop. Agents go on; the next start takes them over.",
    # help of options
    "help.option.agent": "The agent that is to do it; any agent of the project without.",
    "help.option.branch": "The branch to work on; one is made without.",
    "help.option.check": "A command that must exit with 0, in one argument; may be repeated.",
    "help.option.config": "The configuration file. Without: ./coordinator.yaml, then the user's.",
    "help.option.debug": "Show the traceback of an error.",
    "help.option.demo_state": "Use and keep this empty folder.",
    "help.option.description": "What is to be done; `-` reads it from standard input.",
    "help.option.json": "Print JSON.",
    "help.option.keep": "Keep the folder.",
    "help.option.kill": "Stop the running agents too.",
    "help.option.limit": "Only the newest so many.",
    "help.option.log_format": "Log lines for people, or JSON.",
    "help.option.log_level": "The least level that is logged.",
    "help.option.max_attempts": "Attempts in all.",
    "help.option.max_concurrent": "Overrides max_concurrent of the file.",
    "help.option.polling_interval": "Overrides polling_interval of the file, like 5s.",
    "help.option.priority": "Higher comes first.",
    "help.option.project": "The project it belongs to.",
    "help.option.socket": "Overrides socket of the file.",
    "help.option.state_dir": "Overrides state_dir of the file.",
    "help.option.status": "Only tasks with this status.",
    "help.option.stop_timeout": "How many seconds to wait for the end.",
    "help.option.task": "Only runs of this task.",
    "help.option.title": "One line that says what is to be done.",
    "help.option.verbose": "The same as --log-level debug.",
    "help.option.version": "Show the version.",
    # errors
    "error.prefix": "error: {message}",
    "error.hint": "hint: {hint}",
    "error.usage_hint": "see {command} --help",
    "error.internal": "unexpected: {kind}: {message}",
    "error.internal_hint": "run it again with --debug to see where",
    "error.interrupted": "interrupted",
    # server
    "server.none": "no server is running for {origin}",
    "server.none_hint": "start it with: aiagent-coordinator{config}",
    "server.foreign": "the server of {origin} belongs to another user",
    "server.foreign_hint": "run the command as that user",
    "origin.config": "{path}",
    "origin.default": "the default configuration",
    "daemon.no_config": "no coordinator.yaml found: nothing is declared, and no project has an agent",
    # input
    "input.check": "--check {value!r} is no command: {reason}",
    "input.not_utf8": "the description on standard input is not UTF-8",
    "input.too_long": "the description on standard input is longer than {limit} KiB",
    # tables
    "table.agent": "AGENT",
    "table.attempt": "ATTEMPT",
    "table.attempts": "ATTEMPTS",
    "table.branch": "BRANCH",
    "table.commit": "COMMIT",
    "table.id": "ID",
    "table.outcome": "OUTCOME",
    "table.phase": "PHASE",
    "table.project": "PROJECT",
    "table.reason": "REASON",
    "table.seconds": "SECONDS",
    "table.started": "STARTED",
    "table.status": "STATUS",
    "table.task": "TASK",
    "table.title": "TITLE",
    "list.no_tasks": "No tasks.",
    "list.no_runs": "No runs.",
    # results
    "task.added": "Task {id} added: {status}.",
    "task.cancelled": "Task {id} is cancelled.",
    "status.running": "Server {version} runs as process {pid} on {socket}.",
    "status.tasks": "Tasks: {counts}.",
    "status.runs": "Runs: {counts}.",
    "status.nothing": "none",
    # stop
    "stop.none": "nothing is running for {origin}",
    "stop.unclear": "the lock {path} is held, but it does not say by which process",
    "stop.unclear_hint": "look with: lsof {path}",
    "stop.gone": "process {pid} of the lock {path} is another program now",
    "stop.foreign": "process {pid} belongs to another user",
    "stop.timeout": "process {pid} has not ended after {seconds} s",
    "stop.timeout_hint": "wait, or stop the agents too with: aiagent-coordinator stop --kill",
    "stop.left_none": "Stopped. No agent is running.",
    "stop.left": "Stopped. {count} runs keep running; the next start takes them over.",
    "stop.left_one": "Stopped. 1 run keeps running; the next start takes it over.",
    # demo
    "demo.not_empty": "{path} is not an empty folder",
    "demo.no_git": "git is needed and was not found on PATH",
    "demo.git_failed": "git {command} failed: {output}",
    "demo.not_ready": "the server did not answer within {seconds} s",
    "demo.ended": "the server ended with status {status} before it answered",
    "demo.kept": "everything is kept for you in {path}",
    "demo.timeout": "the task was not done within {seconds} s; it is {status}",
    "demo.repository": "Made a small git repository with a failing test.",
    "demo.started": "Started server and loop, as the default command does.",
    "demo.added": "Put a task on the board for agent {agent}: {title}",
    "demo.status": "The task is {status}.",
    "demo.result": "{title}: {status}",
    "demo.result.agent": "  agent     {agent} (provider {provider}), {attempts} attempt(s), {seconds:.1f} s",
    "demo.result.commit": "  commit    {commit} on branch {branch}",
    "demo.result.nothing": "  commit    none",
    "demo.result.check": "  check     {check}: {verification}",
    "demo.result.exit": "  exit code {exit_code}",
    "demo.result.reason": "  reason    {reason}",
    "demo.result.log": "  log       {path}",
    "demo.stopped": "Stopped server and loop.",
    "demo.removed": "The demo's folder is removed again; --keep leaves it.",
    "demo.next": "Next, with a repository of yours:",
    "demo.next.config": "  write a coordinator.yaml like examples/minimal/coordinator.yaml",
    "demo.next.start": "  aiagent-coordinator --config coordinator.yaml",
    "demo.next.add": "  aiagent-coordinator task add --project ID --agent ID --title 'What to do'",
    "demo.next.look": "Look at it:",
    "demo.next.diff": "  git -C {repository} show {branch}",
    "demo.next.rerun": "  aiagent-coordinator --config {config}",
    # the agents' own command
    "agent.help": "aiagent {version}: what a running agent types. Its commands come with a later "
    "version; agents use the MCP tools they were given.",
}


def text(key: str, **values: object) -> str:
    """Render a sentence of the catalogue.

    Raises:
        KeyError: there is no such sentence; a programming error.
    """
    return _ENGLISH[key].format_map(values)


def keys() -> frozenset[str]:
    """Every key there is, for the test that none is missing or unused."""
    return frozenset(_ENGLISH)
