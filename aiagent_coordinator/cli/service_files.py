"""Files that belong to us as long as nobody else changed them: each carries a digest of its text."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_MARK = re.compile(
    r"^(?:# |<!-- )Written by `aiagent-coordinator service install`, sha256 ([0-9a-f]{64})(?: -->)?\n",
    re.MULTILINE,
)


class Whose(StrEnum):
    """Whose file it is."""

    ABSENT = "absent"
    OURS = "ours"
    #: We wrote it, and somebody changed it since.
    EDITED = "edited"
    FOREIGN = "foreign"


@dataclass(frozen=True)
class Found:
    """What stands at a place."""

    whose: Whose
    text: str = ""


def marked(text: str) -> str:
    """The text with the line that tells it is ours, where a comment may stand."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    said = f"Written by `aiagent-coordinator service install`, sha256 {digest}"
    if not text.startswith("<?xml"):
        return f"# {said}\n{text}"
    first, _, rest = text.partition("\n")
    return f"{first}\n<!-- {said} -->\n{rest}"


def look(file: Path) -> Found:
    """See what stands at a place; a link is somebody else's, whatever it leads to."""
    if file.is_symlink():
        return Found(Whose.FOREIGN, f"(a link to {file.readlink()})\n")
    try:
        text = file.read_text("utf-8", "replace")
    except FileNotFoundError:
        return Found(Whose.ABSENT)
    mark = _MARK.search(text)
    if mark is None:
        return Found(Whose.FOREIGN, text)
    rest = text[: mark.start()] + text[mark.end() :]
    same = hashlib.sha256(rest.encode()).hexdigest() == mark[1]
    return Found(Whose.OURS if same else Whose.EDITED, text)


def differences(file: Path, before: str, after: str) -> list[str]:
    """What would change, in lines as `diff -u` writes them."""
    return list(
        difflib.unified_diff(
            before.splitlines(), after.splitlines(), str(file), f"{file} (new)", lineterm=""
        )
    )


def put(file: Path, text: str) -> None:
    """Write the file whole or not at all, readable by its owner alone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    draft.write_text(text, "utf-8")
    draft.chmod(0o600)
    draft.replace(file)
