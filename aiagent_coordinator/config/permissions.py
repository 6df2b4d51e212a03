"""The settings of what an agent's program may do beyond its approval, and who is asked."""

from __future__ import annotations

from typing import Any, Literal

from aiagent_coordinator.config.fields import Model, Rule, setting


class PermissionSettings(Model):
    """Who says what a program may do that its approval does not allow: rules, then nobody or a person."""

    mode: Literal["off", "policy", "ask"] = setting(
        "off",
        "`policy`: the rules below decide, and what none of them allows is denied. `ask`: a person is asked "
        "then, as by a question of the agent (`task answer ID allow`); silence is a no. `off`: as `approval` "
        "says. Refused for programs that cannot ask.",
        reload="live",
    )
    allow: tuple[Rule, ...] = setting(
        (),
        "What is allowed unasked: `Tool` or `Tool(pattern)` with `*`, like `Bash(git status*)`. A pattern "
        "never allows a second command behind the first.",
        reload="live",
    )
    deny: tuple[Rule, ...] = setting(
        (),
        "What is denied, whatever is allowed; a command anywhere in a line counts.",
        reload="live",
    )

    def rules(self) -> dict[str, Any] | None:
        """The same as the board keeps it; None: off."""
        if self.mode == "off":
            return None
        return {"ask": self.mode == "ask", "allow": list(self.allow), "deny": list(self.deny)}
