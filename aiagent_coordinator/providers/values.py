"""What one launch is made of besides the definition: the values that its placeholders stand for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiagent_coordinator.providers.mcp_servers import Server
from aiagent_coordinator.providers.options import Chosen
from aiagent_coordinator.tasks import Approval

#: The name of our server in the CLI's configuration; short, because some CLIs put it before every tool.
SERVER_NAME = "coord"


@dataclass(frozen=True)
class LaunchValues:
    """The facts of one run that a definition may use. Secrets are among `options` alone, kept apart.

    Empty text and an empty list mean "not given": what needs it vanishes.

    Args:
        run_dir: The run's folder; the bridge and the token lie there.
        temp_dir: The run's own temporary folder, with a short name.
        socket: The server's Unix socket.
        python: The interpreter that runs the bridge, absolute.
        system_prompt_file: Where the agent's role lies; empty when it stands in the prompt.
        skills_dir: The folder of the run's skills; empty without any.
        url: The server's address where it is reached over HTTP; then `socket` is not used.
        asks_leave: Whether our server is asked for what the approval does not allow.
        is_live: Whether a driver of ours stands between the shim and the CLI.
        headers: What goes with each request to `url`.
        login_files: Files of the user's login, by where below `files_dir` a link leads to each.
    """

    run_dir: Path
    workspace: Path
    socket: str
    run_id: str
    agent_id: str
    project_id: str
    task_id: str = ""
    temp_dir: str = ""
    prompt: str = ""
    python: str = sys.executable
    model: str = ""
    approval: Approval | str = Approval.EDITS
    #: Whether a sandbox around the CLI makes one of its own impossible.
    shut_in: bool = False
    tools: tuple[str, ...] = ()
    extra_args: tuple[str, ...] = ()
    provider_session_id: str = ""
    new_uuid: str = ""
    skills_dir: str = ""
    system_prompt_file: str = ""
    max_turns: str = ""
    options: Chosen = field(default_factory=Chosen)
    #: Servers of the user's, beside ours.
    servers: tuple[Server, ...] = ()
    # a checked-in hook or server of the project would run without anybody having been asked
    setting_sources: str = "user"
    asks_leave: bool = False
    is_live: bool = False
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    login_files: Mapping[str, Path] = field(default_factory=dict[str, Path])

    @property
    def files_dir(self) -> Path:
        """Where the CLI's generated configuration lies."""
        return self.run_dir / "files"

    @property
    def artifacts_dir(self) -> Path:
        """Where the agent puts what is to be kept beside its commits."""
        return self.workspace / ".aiagent" / "artifacts"

    @property
    def prompt_file(self) -> Path:
        """The prompt as a file."""
        return self.run_dir / "prompt"
