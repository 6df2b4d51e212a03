"""What `doctor` says of sandboxes: each is made once and tried from inside."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aiagent_coordinator.cli.findings import Finding, Level
from aiagent_coordinator.messages import text

if TYPE_CHECKING:
    from aiagent_coordinator.config import Settings


def sandbox_findings(settings: Settings) -> Iterator[Finding]:
    """Say which sandboxes can be made here, what they do not stop, and who works without one."""
    from aiagent_coordinator.sandbox.keeper import wishes_of
    from aiagent_coordinator.sandbox.policy import Kind, Network, strictest
    from aiagent_coordinator.sandbox.probe import probe

    wishes = wishes_of(settings)
    wanted = wishes.kinds()
    here = (Kind.SANDBOX_EXEC,) if sys.platform == "darwin" else (Kind.LANDLOCK, Kind.BWRAP)
    for kind in dict.fromkeys((*here, *sorted(kind for kind, _ in wanted))):
        networks = {network for one, network in wanted if one is kind} or {Network.INHERIT}
        troubles = (probe(kind, network) for network in sorted(networks))
        trouble = next((one for one in troubles if one), None)
        name = f"sandbox {kind.value}"
        is_wanted = any(one is kind for one, _ in wanted)
        if trouble is not None:
            level: Level = "fault" if is_wanted else "note"
            fix = text(f"doctor.sandbox_fix.{kind.value}") if is_wanted else ""
            yield Finding(name, level, text("doctor.sandbox_absent", trouble=trouble), fix)
        else:
            yield Finding(name, "ok", text(f"doctor.sandbox.{kind.value}"))
    pairs = [(agent, one.id) for one in settings.projects for agent in settings.agents_of(one)]
    bare = [f"{a} in {p}" for a, p in pairs if wishes.choice(a, p).kind is Kind.NONE]
    if bare or (strictest(wishes.everywhere).kind is Kind.NONE and not pairs):
        yield Finding("sandbox", "note", text("doctor.unsandboxed", who=", ".join(bare) or "-"))
