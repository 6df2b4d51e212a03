"""What a launch needs, computed from the record: executable, argv, files and environment.

Computed again whenever it is needed: the environment may hold secrets and is never journaled.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from aiagent_coordinator.errors import ProviderError
from aiagent_coordinator.executors.base import LaunchSpec, ServerAddress
from aiagent_coordinator.pipeline.confinement import command_of, is_alone, socket_of
from aiagent_coordinator.pipeline.context import Context
from aiagent_coordinator.pipeline.equipment import options_of, servers_of
from aiagent_coordinator.pipeline.run import RunRecord
from aiagent_coordinator.pipeline.skills import opened_dir
from aiagent_coordinator.providers.command import Rendered, render
from aiagent_coordinator.providers.environment import child_env, of_account
from aiagent_coordinator.providers.logins import login_files
from aiagent_coordinator.providers.values import LaunchValues
from aiagent_coordinator.quota import DEFAULT_ACCOUNT
from aiagent_coordinator.wire.protocol import AGENT_TOOLS, GUEST_TOOLS

#: Left for the answer to reach a CLI before that gives the call up.
ANSWER_SECONDS = 15.0
#: Then an agent may as well hear that nobody is there.
LONGEST_HOLD_SECONDS = 300.0
#: What lets a process speak as the run's agent.
_ONLY_FOR_THE_AGENT = frozenset({"AIAGENT_SOCKET", "AIAGENT_TOKEN_FILE"})


def launch_values(record: RunRecord, context: Context) -> LaunchValues:
    """The values that a provider definition's placeholders stand for."""
    limits = context.catalog.get(record.provider).limits
    return LaunchValues(
        run_dir=context.state.run(record.run_id),
        workspace=record.workspace,
        temp_dir=record.temp_dir or "",
        socket=str(socket_of(record, context)),
        model=record.agent.get("model") or "",
        approval=record.agent.get("approval") or "edits",
        shut_in=is_alone(record),
        task_id=record.task["id"],
        run_id=record.run_id,
        project_id=record.project_id,
        agent_id=record.agent_id,
        tools=GUEST_TOOLS if record.is_guest else AGENT_TOOLS,
        is_live=record.is_live,
        asks_leave=bool(record.agent.get("permissions")),
        provider_session_id=record.resumed_session_id or "",
        new_uuid=record.new_session_id or "",
        max_turns=str(limits.max_turns or ""),
        options=options_of(record, context),
        servers=servers_of(record, context),
        extra_args=context.catalog.extra_args(record.provider, record.agent_id),
        skills_dir=opened_dir(record, context),
        system_prompt_file=str(system_prompt_file(record, context) or ""),
    )


def system_prompt_file(record: RunRecord, context: Context) -> Path | None:
    """Where the agent's role is written for its CLI; None when it stands in the prompt."""
    named = context.catalog.get(record.provider).launch.system_prompt_file
    # what another make's server says of an agent is no better than the prompt
    if record.is_guest or not named or not str(record.agent.get("role") or "").strip():
        return None
    return context.state.run(record.run_id) / "files" / named


def rendered_for(record: RunRecord, context: Context, prompt: str) -> Rendered:
    """The command line and files of this run's CLI.

    Args:
        record: The run.
        context: What the coordinator has.
        prompt: What the CLI is told; it stands in the command line of one that takes it nowhere else.

    Raises:
        ProviderError: no such definition, or a value that cannot be part of a command line.
        SpawnError: the program is not installed.
    """
    definition = context.catalog.get(record.provider)
    login = login_files(definition.auth, account_env(record, context))
    values = replace(launch_values(record, context), prompt=prompt, login_files=login)
    return render(definition, values, context.environ, masker=context.masker)


def spec_for(record: RunRecord, context: Context) -> LaunchSpec:
    """How the shim starts this run's CLI."""
    definition = context.catalog.get(record.provider)
    limits = context.limits_of(record)
    return LaunchSpec(
        run_id=record.run_id,
        argv=command_of(record, context),
        cwd=record.workspace,
        env=account_env(record, context),
        # a shim only knows that something may still come
        stdin="answers" if record.stdin == "words" else record.stdin,
        gate_seconds=limits.gate_seconds,
        grace_seconds=limits.stop_grace_seconds,
        kill_leftovers=limits.kill_leftovers,
        server=ServerAddress(
            str(socket_of(record, context)),
            ours=not record.is_guest,
            hold_seconds=hold_of(definition.mcp.tool_timeout_seconds),
        ),
        caps=limits.caps(),
    )


def account_env(record: RunRecord, context: Context) -> dict[str, str]:
    """The environment of a run's CLI with the variables of its account, and of no other account.

    Raises:
        ProviderError: the account is not declared here.
    """
    definition = context.catalog.get(record.provider)
    env = child_env(context.environ, definition, launch_values(record, context))
    accounts = context.accounts.get(record.provider, {})
    if not accounts:
        return env
    named = str(record.agent.get("account") or DEFAULT_ACCOUNT)
    if named not in accounts:
        raise ProviderError(
            f"provider {record.provider} has no account {named!r} here",
            hint=f"there are: {', '.join(accounts)}",
        )
    others = _of_accounts(record, context)
    env = {name: value for name, value in env.items() if name not in others}
    return of_account(env, accounts[named])


def _of_accounts(record: RunRecord, context: Context) -> frozenset[str]:
    """Variables that stand for an account of the run's provider."""
    accounts = context.accounts.get(record.provider, {})
    return frozenset(name for env in accounts.values() for name in env) - {"HOME"}


def hold_of(tool_timeout_seconds: float) -> float:
    """How long a bridge may keep a call open without a server, by what its CLI lets a call take."""
    at_most = tool_timeout_seconds - ANSWER_SECONDS
    return min(max(at_most, tool_timeout_seconds / 2), LONGEST_HOLD_SECONDS)


def check_env(record: RunRecord, context: Context) -> dict[str, str]:
    """The environment of a check: as clean as the CLI's, without the way to our server."""
    definition = context.catalog.get(record.provider)
    values = launch_values(record, context)
    # a key of the configuration is for the CLI alone
    values = replace(values, options=replace(values.options, secrets={}))
    env = child_env(context.environ, definition, values)
    env = {name: value for name, value in env.items() if name not in _of_accounts(record, context)}
    return {name: value for name, value in env.items() if name not in _ONLY_FOR_THE_AGENT}
