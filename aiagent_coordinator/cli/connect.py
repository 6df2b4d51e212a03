"""Where the server of this configuration is, and a connection to it as the person. Reads no YAML."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from aiagent_coordinator import paths
from aiagent_coordinator.cli.options import Options
from aiagent_coordinator.config.find import find_config
from aiagent_coordinator.errors import ConfigError, ForbiddenError, UnavailableError
from aiagent_coordinator.messages import text
from aiagent_coordinator.wire import lockfile
from aiagent_coordinator.wire.protocol import hello_person

if TYPE_CHECKING:
    from collections.abc import Generator

    from aiagent_coordinator.wire.client import BlockingClient

#: Our own server answers within milliseconds; a stopped or swapped one is told after this.
CALL_SECONDS = 30.0
#: What the server gives at once.
PAGE_ITEMS = 1000


@dataclass(frozen=True)
class Place:
    """Where the state and the socket of one configuration are."""

    config: Path | None
    state_dir: paths.StateDir
    socket: Path
    #: The time zone of what people are shown, as the server's settings say.
    zone: str = "UTC"
    #: So long one call to the server may take.
    call_seconds: float = CALL_SECONDS

    @property
    def origin(self) -> str:
        """What people call this configuration."""
        if self.config is None:
            return text("origin.default")
        return text("origin.config", path=self.config)


def locate(options: Options) -> Place:
    """Find the place: what the running server wrote down, else where it would be by default.

    Raises:
        ConfigError: the named configuration file does not exist.
    """
    config = find_config(options.config)
    given = options.overrides.get("state_dir") or os.environ.get("AIAGENT_COORDINATOR_STATE_DIR")
    explicit = Path(given).expanduser().absolute() if given else None
    found: Place | None = None
    for file in paths.pointer_files(config, explicit):
        note = read_pointer(file)
        if note is None:
            continue
        state_dir = paths.StateDir(Path(note["state_dir"]))
        zone = os.environ.get("AIAGENT_COORDINATOR_TIMEZONE") or note["timezone"]
        seconds = _seconds(note["api_timeout"])
        place = Place(config, state_dir, Path(note["socket"]), zone, seconds)
        # the runtime folder may differ between logins: a note whose socket is there wins
        if place.socket.exists():
            return place
        found = found or place
    if found is not None:
        return found
    socket = os.environ.get("AIAGENT_COORDINATOR_SOCKET")
    return Place(
        config,
        paths.StateDir(explicit or paths.default_state_dir(config)),
        Path(socket).absolute() if socket else paths.default_socket(config, explicit),
    )


def read_pointer(file: Path) -> dict[str, str] | None:
    """Read one of the small files a server leaves; None when it is absent or broken."""
    try:
        note: object = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(note, dict):
        return None
    # JSON objects have text keys
    known = cast("dict[str, object]", note)
    socket, state_dir = known.get("socket"), known.get("state_dir")
    if not isinstance(socket, str) or not isinstance(state_dir, str):
        return None
    zone = known.get("timezone")
    zone = zone if isinstance(zone, str) else "UTC"
    limit = known.get("api_timeout")
    limit = limit if isinstance(limit, str) else ""
    return {"socket": socket, "state_dir": state_dir, "timezone": zone, "api_timeout": limit}


def _seconds(noted: str) -> float:
    """What the server noted as the limit of a call, else what is usual."""
    try:
        return float(noted)
    except ValueError:
        return CALL_SECONDS


@contextmanager
def board(place: Place) -> Generator[BlockingClient]:
    """Connect to the server as the person.

    Raises:
        UnavailableError: none is running.
        ForbiddenError: it belongs to another user.
    """
    from aiagent_coordinator.wire.client import BlockingClient

    with ExitStack() as stack:
        try:
            key = place.state_dir.operator_key.read_text("ascii").strip()
            client = BlockingClient(str(place.socket), hello_person(key), place.call_seconds)
            stack.enter_context(client)
        except PermissionError as error:
            raise ForbiddenError(
                text("server.foreign", origin=place.origin), hint=text("server.foreign_hint")
            ) from error
        except (FileNotFoundError, NotADirectoryError, UnavailableError) as error:
            if lockfile.is_held(str(place.state_dir.server_lock)):
                if isinstance(error, UnavailableError):
                    raise  # it is there, but does not answer: its own words say more
                raise UnavailableError(text("server.starting", origin=place.origin)) from error
            raise no_server(place) from error
        yield client


def no_server(place: Place) -> UnavailableError:
    """The error of a command that needs a server where none is, or none of ours can be."""
    if place.config is not None and _is_of_another_make(place.config):
        return UnavailableError(
            text("server.of_another_make", origin=place.origin),
            hint=text("server.of_another_make_hint"),
        )
    config = f" --config {place.config}" if place.config else ""
    return UnavailableError(
        text("server.none", origin=place.origin), hint=text("server.none_hint", config=config)
    )


def _is_of_another_make(file: Path) -> bool:
    """Whether a file describes a coordinator of AI Agent PM, whose board is another server's."""
    # it costs a YAML parser, so it is looked at only when nothing answers
    from aiagent_coordinator.config.runner import is_runner_shaped
    from aiagent_coordinator.config.source import read_source

    try:
        return is_runner_shaped(read_source(file).data)
    except ConfigError:
        return False


def call(options: Options, tool: str, **arguments: object) -> dict[str, Any]:
    """Ask the server one thing; arguments that are None are left out.

    Raises:
        CoordinatorError: as the server answered, or as for `board`.
    """
    with board(locate(options)) as client:
        return client.call(
            tool, {key: value for key, value in arguments.items() if value is not None}
        )


def call_pages(
    options: Options, tool: str, name: str, limit: int | None, **arguments: object
) -> list[dict[str, Any]]:
    """Ask for a whole list, page by page, oldest first; with a limit only its newest part.

    Raises:
        CoordinatorError: as for `call`.
    """
    given = {key: value for key, value in arguments.items() if value is not None}
    if limit is not None:
        given["newest"] = True
    found: list[dict[str, Any]] = []
    with board(locate(options)) as client:
        after: object = None
        while True:
            start = {} if after is None else {"after": after}
            wanted = PAGE_ITEMS if limit is None else min(PAGE_ITEMS, limit - len(found))
            page = client.call(tool, {**given, **start, "limit": wanted})
            # our own server's answer, whose shape its tests hold
            found += cast("list[dict[str, Any]]", page[name])
            after = page.get("next")
            if after is None or len(found) == limit:
                return found if limit is None else found[::-1]
