"""What `doctor` says of budgets that would stop nothing, and of what is parked now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiagent_coordinator.cli import options
from aiagent_coordinator.cli.connect import call
from aiagent_coordinator.cli.findings import Finding
from aiagent_coordinator.errors import CoordinatorError
from aiagent_coordinator.messages import text

if TYPE_CHECKING:
    from aiagent_coordinator.config import Loaded


def quota_findings(given: options.Options, loaded: Loaded) -> Iterator[Finding]:
    """Look at the budgets of the file, and ask the server, where one answers, what waits."""
    from aiagent_coordinator.serving import terms_in

    try:
        terms_in(loaded)
    except CoordinatorError as error:
        yield Finding("budgets", "fault", error.message, error.hint or "")
    try:
        limits: list[dict[str, Any]] = call(given, "list_limits")["limits"]
    except (CoordinatorError, OSError):
        return  # what is said of the server says enough
    for one in limits:
        if one["state"] == "parked":
            lane = "/".join(filter(None, (one["provider"], one["account"], one["model"])))
            fix = text("doctor.parked_fix", lane=lane)
            yield Finding(f"limit {lane}", "warning", one["why"], fix)
