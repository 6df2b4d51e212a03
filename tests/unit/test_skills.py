"""Skills come from another machine: what is whole is unpacked, what is not leaves nothing."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path

from aiagent_coordinator.coordinator.skills import unpack

WORDS = "Mend the fence before you paint it.\n" * 200


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("SKILL.md", WORDS)
        packed.writestr("tools/mend.sh", WORDS[::-1])
    return file.getvalue()


def offered(name: str, content: bytes) -> dict[str, str]:
    return {"directory_name": name, "archive_base64": base64.b64encode(content).decode()}


def test_what_has_no_name_or_a_name_twice_is_left_out(tmp_path: Path):
    skills = [offered("", archive()), offered("mend", archive()), offered("mend", archive())]
    assert unpack(skills, tmp_path) == ["mend"]
    assert [one.name for one in tmp_path.iterdir()] == ["mend"]
    assert (tmp_path / "mend" / "SKILL.md").read_text() == WORDS


def test_an_archive_with_any_byte_changed_is_whole_or_leaves_nothing(tmp_path: Path):
    whole = archive()
    refused = 0
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 0xFF
        folder = tmp_path / str(place)
        if unpack([offered("mend", bytes(content))], folder):
            assert (folder / "mend").is_dir()
        else:
            refused += 1
            assert not (folder / "mend").exists(), place
    assert refused > 100
