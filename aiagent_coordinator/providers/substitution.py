"""Placeholders: names in braces that stand for values. One pass, so braces in a value stay text."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

#: What `resume`, `own_session_id`, `approval` and the options come to; `launch.args` may say where it stands.
PLACED = ("session_args", "approval_args", "option_args")
#: Values that are lists stand alone in their word and are spliced.
LIST_PLACEHOLDERS = frozenset(
    {
        "mcp_tools",
        "extra_args",
        "bridge_args",
        "tools_allowed",
        "tools_denied",
        "mcp_rules",
        "mcp_more_args",
        *PLACED,
    }
)
#: Everything the words and the environment of a definition may name.
PLACEHOLDERS = LIST_PLACEHOLDERS | {
    *(
        "mcp_config_file",
        "mcp_config_inline",
        "mcp_servers_inline",
        "model",
        "prompt",
        "prompt_file",
    ),
    *("provider_session_id", "new_uuid", "workspace", "run_dir", "files_dir", "bridge_command"),
    *("socket", "python", "setting_sources", "max_turns", "server", "task_id", "temp_dir"),
    *("skills_dir", "system_prompt_file", "mcp_entry_toml", "approval", "permission_tool"),
}
#: What the entry of our server may name.
_EVERY_ENTRY = ("server", "tool_timeout_ms", "tool_timeout_seconds")
STDIO_PLACEHOLDERS = frozenset({"bridge_command", "bridge_args", "socket", *_EVERY_ENTRY})
HTTP_PLACEHOLDERS = frozenset({"url", "headers", *_EVERY_ENTRY})
#: Only the name of a tool as the model sees it knows which tool is meant.
TOOL_PLACEHOLDERS = frozenset({"server", "tool"})

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def names_in(text: str) -> list[str]:
    """The names in braces in a text, in order."""
    return _PLACEHOLDER.findall(text)


def sole_name(text: str) -> str | None:
    """The name, when the text is one placeholder and nothing else."""
    match = _PLACEHOLDER.fullmatch(text)
    return match[1] if match else None


def substitute(text: str, values: Mapping[str, str]) -> str:
    """Put values for the names in braces."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a message that refuses a word: the closest known one, else all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, 1, 0.5)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"
