"""The sandbox of a run: chosen when it is prepared, written as plans that the launcher follows.

There are two: one for the CLI, and one for the checks, which run what the agent wrote and get neither
its token nor the way to the server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from aiagent_coordinator.errors import SpawnError
from aiagent_coordinator.paths import door_of
from aiagent_coordinator.pipeline.context import Context
from aiagent_coordinator.pipeline.run import RunRecord, prepared_of
from aiagent_coordinator.providers.detect import safe_path
from aiagent_coordinator.providers.environment import HOME_FOLDERS, of_account
from aiagent_coordinator.providers.shape import Definition
from aiagent_coordinator.quota import DEFAULT_ACCOUNT
from aiagent_coordinator.sandbox.grants import Places, grants_of
from aiagent_coordinator.sandbox.plan import plan_of, wrapped
from aiagent_coordinator.sandbox.policy import Choice, Kind
from aiagent_coordinator.workspaces.reach import reach_of

#: What the CLI and its bridge read of the run's folder. Not `ctl`: who reads it eats our words.
OWN = ("files", "token", "spec.json", "bridge.py", "confine.py", "prompt")
#: Variables that name files of certificates, and pass to the CLI.
_CERTIFICATES = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    "NODE_EXTRA_CA_CERTS",
)
#: Kinds in which a CLI cannot make a sandbox of its own.
_ALONE = frozenset({Kind.LANDLOCK.value, Kind.SANDBOX_EXEC.value})
_MARK_BYTES = 1000


def choose(record: RunRecord, context: Context) -> Choice:
    """Choose the run's sandbox; see `Sandboxes.choose`.

    Raises:
        SpawnError: it cannot be made here.
    """
    approval = str(record.agent.get("approval") or "")
    return context.sandboxes.choose(record.agent_id, record.project_id, approval)


def is_alone(record: RunRecord) -> bool:
    """Whether the CLI must do without a sandbox of its own."""
    return record.sandbox in _ALONE


def socket_of(record: RunRecord, context: Context) -> Path:
    """Where the run's bridge finds the server: bubblewrap shows it a folder, where a new one appears."""
    door = door_of(context.socket)
    is_ours = door.exists() and not door.parent.is_symlink()
    return door if record.sandbox == Kind.BWRAP.value and is_ours else context.socket


def write_plans(record: RunRecord, context: Context, choice: Choice) -> None:
    """Write the plans of a run whose command line is known; nothing without a sandbox.

    Raises:
        SpawnError: what is to be open cannot be.
        OSError: a file or folder cannot be written.
    """
    if choice.kind is Kind.NONE:
        return
    folder = context.state.run(record.run_id)
    for name, places in (
        ("sandbox", _of_cli(record, _of_account(record, context))),
        ("sandbox.steps", _of_all(record, context)),
    ):
        path_env = context.environ.get("PATH")
        content = plan_of(choice.kind, grants_of(places, choice), path_env=path_env)
        draft = folder / f"{name}.tmp"
        draft.write_bytes(content)
        draft.chmod(0o600)
        draft.replace(folder / name)


def command_of(record: RunRecord, context: Context) -> tuple[str, ...]:
    """What the shim starts: the CLI, or what shuts it in."""
    return _shut(record, context, "sandbox", context.state.run(record.run_id), record.argv)


def step_command(
    record: RunRecord, context: Context, folder: Path, argv: Sequence[str]
) -> tuple[str, ...]:
    """The same for a command that one of the stages runs, in its own folder."""
    return _shut(record, context, "sandbox.steps", folder, argv)


def trouble_of(record: RunRecord, folder: Path) -> str | None:
    """Why a command never ran, although its launcher did; None when it ran, or had no sandbox.

    Args:
        record: The run.
        folder: Where the launcher was to leave its mark.
    """
    if record.sandbox == Kind.NONE.value:
        return None
    try:
        with (folder / "confined").open("rb") as file:
            said = file.read(_MARK_BYTES).decode("utf-8", "replace")
    except OSError:
        said = ""
    stands, _, failed = said.partition("\n")
    if not stands:
        return f"the sandbox {record.sandbox} could not be made; see the run's log"
    return (
        f"{failed}, inside the sandbox {record.sandbox}; sandbox_read opens more"
        if failed
        else None
    )


def _shut(
    record: RunRecord, context: Context, plan: str, folder: Path, argv: Sequence[str]
) -> tuple[str, ...]:
    if record.sandbox == Kind.NONE.value:
        return tuple(argv)
    run_dir = context.state.run(record.run_id)
    return wrapped(run_dir, run_dir / plan, folder / "confined", argv)


def _of_all(record: RunRecord, context: Context) -> Places:
    """What the CLI and the checks have in common."""
    environ = context.environ
    reach = reach_of(prepared_of(record))
    certificates = (Path(environ[name]) for name in _CERTIFICATES if environ.get(name))
    return Places(
        state_root=context.state.root,
        workspace=record.workspace,
        home=_home(context),
        own=(context.state.run(record.run_id) / "confine.py",),
        write=(record.workspace, Path(record.temp_dir or record.workspace), *reach.write),
        read=(*reach.read, *certificates),
        path_env=safe_path(environ.get("PATH"), record.workspace),
    )


def _of_cli(record: RunRecord, context: Context) -> Places:
    definition = context.catalog.get(record.provider)
    folder = context.state.run(record.run_id)
    common = _of_all(record, context)
    socket = socket_of(record, context)
    needs = definition.sandbox
    files = (folder / "files",) if needs.files_writable else ()
    readable = (_home(context) / name.removeprefix("~/") for name in needs.readable)
    return Places(
        state_root=common.state_root,
        workspace=common.workspace,
        home=common.home,
        own=tuple(folder / name for name in _own(record)),
        write=(*common.write, *files, *_state_paths(definition, record, context)),
        read=(*common.read, *readable),
        door=socket if socket == context.socket else socket.parent,
        programs=programs_of(record),
        path_env=common.path_env,
    )


def programs_of(record: RunRecord) -> tuple[Path, ...]:
    """What is executed: the CLI, and the driver's interpreter where it is driven."""
    cli = Path(record.program)
    return (Path(record.argv[0]), cli) if record.is_live else (cli,)


def _own(record: RunRecord) -> Iterator[str]:
    """What the CLI may read of its run's folder. What is named has to be there when it starts."""
    yield from OWN
    if record.is_guest:
        yield "credentials"
        if record.agent.get("skills"):
            yield "skills"


def _of_account(record: RunRecord, context: Context) -> Context:
    """The same, where the CLI's state lies elsewhere for its account."""
    return replace(context, environ=of_account(context.environ, _own_variables(record, context)))


def _own_variables(record: RunRecord, context: Context) -> Mapping[str, str]:
    accounts = context.accounts.get(record.provider, {})
    return accounts.get(str(record.agent.get("account") or DEFAULT_ACCOUNT), {})


def _home(context: Context) -> Path:
    return Path(context.environ.get("HOME") or Path.home())


def _placed(path: str, home: Path, environ: Mapping[str, str]) -> Path:
    """A path of the home, or where the user's variables put such a folder (XDG Base Directory 0.8)."""
    for name, folder in HOME_FOLDERS.items():
        elsewhere = environ.get(name, "")
        if path.startswith(folder) and Path(elsewhere).is_absolute():
            return Path(elsewhere, path.removeprefix(folder))
    return home / path.removeprefix("~/")


def _state_paths(definition: Definition, record: RunRecord, context: Context) -> Iterator[Path]:
    """Where the CLI keeps its own state. A folder that is not there yet is made, as it would itself.

    An account that puts its state elsewhere has no business where others have theirs: a login lies there.

    Raises:
        SpawnError: it cannot be made.
    """
    home = _home(context)
    usual = definition.limits.state_paths
    if set(definition.sandbox.state_env) & set(_own_variables(record, context)):
        usual = tuple(path for path in usual if path.startswith(HOME_FOLDERS["XDG_CACHE_HOME"]))
    places = [_placed(path, home, context.environ) for path in usual]
    named = (context.environ.get(name) for name in definition.sandbox.state_env)
    for path in (*places, *(Path(value) for value in named if value)):
        # `.name` is a folder, `.name.json` a file that only the CLI knows how to begin
        if not path.suffix and not path.exists():
            try:
                path.mkdir(mode=0o700, parents=True)
            except OSError as error:
                raise SpawnError(f"{path}: {error.strerror}") from error
        yield path
