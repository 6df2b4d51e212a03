"""Skills come from anywhere: what is whole and harmless is unpacked, what is not leaves nothing."""

from __future__ import annotations

import base64
import io
import os
import socket
import stat
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator import skill_archives, skill_sources, skills
from aiagent_coordinator.coordinator.skills import unpack
from aiagent_coordinator.errors import ForbiddenError, NotFoundError, ValidationError

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


def member(name: str, mode: int = stat.S_IFREG | 0o644, content: bytes = b"x") -> tuple[Any, bytes]:
    info = zipfile.ZipInfo(name)
    info.filename = name
    info.create_system = 3
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = mode << 16
    return info, content


def zipped(*members: tuple[Any, bytes], guide: str = "SKILL.md") -> bytes:
    file = io.BytesIO()
    with (
        warnings.catch_warnings(),
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        warnings.simplefilter("ignore")
        if guide:
            packed.writestr(guide, "Do it well.")
        for info, content in members:
            packed.writestr(info, content)
    return file.getvalue()


def renamed(data: bytes, old: bytes, new: bytes) -> bytes:
    """A name that no library writes, in the directory and in the member's own head."""
    assert len(old) == len(new)
    assert data.count(old) == 2
    return data.replace(old, new)


def encrypted() -> bytes:
    data = bytearray(zipped(member("a")))
    place = data.rindex(b"PK\x01\x02")
    data[place + 8] |= 1
    return bytes(data)


def odd_packing() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as packed:
        packed.writestr("SKILL.md", "x")
    return file.getvalue()


def lying_sizes() -> bytes:
    """Says that it is small, and is not."""
    data = bytearray(zipped(member("big", content=b"\0" * 3_000_000)))
    place = data.rindex(b"PK\x01\x02")
    data[place + 24 : place + 28] = (10).to_bytes(4, "little")
    return bytes(data)


HOSTILE: dict[str, bytes] = {
    "above": zipped(member("../escaped")),
    "above in the middle": zipped(member("a/../../escaped")),
    "absolute": zipped(member("/tmp/escaped")),
    "backslash": renamed(zipped(member("a!b")), b"a!b", b"a\\b"),
    "drive": zipped(member("C:escaped")),
    "empty part": zipped(member("a//b")),
    "here": zipped(member("./a")),
    "NUL": renamed(zipped(member("a!.sh")), b"a!.sh", b"a\0.sh"),
    "line end": renamed(zipped(member("a!b")), b"a!b", b"a\nb"),
    "terminal": renamed(zipped(member("a!b")), b"a!b", b"a\x1bb"),
    "dot at the end": zipped(member("a.")),
    "long name": zipped(member("a" * 300)),
    "deep": zipped(member("/".join("abcdefghijklmnopq"))),
    "link": zipped(member("a", stat.S_IFLNK | 0o777, b"/etc/passwd")),
    "folder link": zipped(member("a/", stat.S_IFLNK | 0o777)),
    "device": zipped(member("a", stat.S_IFCHR | 0o666)),
    "pipe": zipped(member("a", stat.S_IFIFO | 0o666)),
    "twice": zipped(member("a"), member("a")),
    "guide twice": zipped(member("SKILL.md")),
    "case": zipped(member("Read.me"), member("read.ME")),
    "case of a folder": zipped(member("Docs/a"), member("docs/b")),
    "letter": zipped(member("caf\u00e9"), member("cafe\u0301")),
    "sharp s": zipped(member("stra\u00dfe"), member("strasse")),
    "file and folder": zipped(member("a"), member("a/b")),
    "file and folder by case": zipped(member("A"), member("a/b")),
    "many": zipped(*(member(f"f{number}") for number in range(skills.MAX_FILES + 1))),
    "many folders": zipped(
        *(member(f"d{number}/", stat.S_IFDIR | 0o755, b"") for number in range(3001))
    ),
    "bomb": zipped(member("zeros", content=b"\0" * 8_000_000)),
    "lying": lying_sizes(),
    "encrypted": encrypted(),
    "odd packing": odd_packing(),
    "no guide": zipped(member("a"), guide=""),
    "guide too deep": zipped(member("b"), guide="a/SKILL.md"),
    "no archive": b"nonsense",
    "empty": b"",
    "large": b"\0" * (skills.MAX_ARCHIVE_BYTES + 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(tmp_path: Path, name: str):
    with pytest.raises(ValidationError):
        skill_archives.unpack(HOSTILE[name], tmp_path / "below" / "skill")
    assert list(tmp_path.rglob("*")) in ([], [tmp_path / "below"])


def test_an_archive_is_unpacked_for_its_owner_alone(tmp_path: Path):
    data = zipped(
        member("run.sh", stat.S_IFREG | 0o4777),
        member("docs/", stat.S_IFDIR | 0o777, b""),
        member("docs/a.md", stat.S_IFREG | 0o666),
        member("__MACOSX/._a"),
    )
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    (tmp_path / "skill").symlink_to(tmp_path / "elsewhere")
    skill_archives.unpack(data, tmp_path / "skill")
    assert (tmp_path / "elsewhere" / "kept").exists(), "a link is replaced, not followed"
    found = {
        str(path.relative_to(tmp_path / "skill")): stat.S_IMODE(path.lstat().st_mode)
        for path in (tmp_path / "skill").rglob("*")
    }
    assert found == {"SKILL.md": 0o600, "run.sh": 0o700, "docs": 0o700, "docs/a.md": 0o600}
    skill_archives.unpack(zipped(), tmp_path / "skill")
    assert [path.name for path in (tmp_path / "skill").iterdir()] == ["SKILL.md"]


def test_one_folder_around_everything_is_left_away():
    content = skill_archives.read_archive(zipped(member("paint/a"), guide="paint/SKILL.md"))
    assert set(content) == {"SKILL.md", "a"}


def test_a_skill_has_one_digest_however_it_was_packed():
    content = {"SKILL.md": skills.File(b"a"), "b/run": skills.File(b"c", is_executable=True)}
    first = skills.packed(content, fallback="paint")
    again = skills.packed(skill_archives.read_archive(first.archive), fallback="paint")
    turned = skills.packed(dict(reversed(content.items())), fallback="paint")
    assert first == again == turned
    other = skills.packed({**content, "b/run": skills.File(b"c")}, fallback="paint")
    assert other.sha256 != first.sha256


@pytest.mark.parametrize(
    ("guide", "name", "description"),
    [
        ("---\nname: Paint walls\ndescription: 'How: with a brush'\n---\n# x", "Paint walls", "How: with a brush"),
        ('---\ndescription: >\n  two\n  lines\nname: "p"\n---\n', "p", "two lines"),
        ("# no head\nname: x\n", "", ""),
        ("---\nname: \x1b[2Jx\n---\n", "[2Jx", ""),
        ("", "", ""),
    ],
)  # fmt: skip
def test_name_and_description_come_from_the_head_of_the_guide(
    guide: str, name: str, description: str
):
    assert skills.told({"SKILL.md": skills.File(guide.encode())}) == (name, description)


def test_a_skill_is_called_as_it_is_said_else_as_it_says_else_as_it_lies():
    def named(called: skills.Called, guide: str = "", fallback: str = "") -> tuple[str, str]:
        content = {"SKILL.md": skills.File(guide.encode())}
        made = skills.packed(content, called, fallback=fallback)
        return made.directory_name, made.name

    head = "---\nname: Paint Walls\n---\n"
    assert named(skills.Called("wall", "Wall"), head, "x") == ("wall", "Wall")
    assert named(skills.Called(), head, "x") == ("paint-walls", "Paint Walls")
    assert named(skills.Called(), "", "My Folder") == ("my-folder", "My Folder")
    for bad in (
        skills.Called("../up"),
        skills.Called("a..b"),
        skills.Called("Up"),
        skills.Called(),
    ):
        with pytest.raises(ValidationError, match="no name"):
            named(bad)


def test_a_folder_is_read_without_what_is_kept_beside_it(tmp_path: Path):
    (tmp_path / "SKILL.md").write_text("x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("secret")
    (tmp_path / "run").write_text("y")
    (tmp_path / "run").chmod(0o755)
    content = skill_sources.from_path(tmp_path)
    assert {name: one.is_executable for name, one in content.items()} == {
        "SKILL.md": False,
        "run": True,
    }


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    (root / "good").mkdir(parents=True)
    (root / "good" / "SKILL.md").write_text("good")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "SKILL.md").write_text("secret")
    (tmp_path / "secret.zip").write_bytes(zipped())
    return root


def test_what_an_agent_names_is_read_in_its_workspace(workspace: Path):
    (workspace / "good.zip").write_bytes(zipped())
    for named in ("good", "./good", str(workspace / "good"), "good/"):
        assert set(skill_sources.inside(workspace, named, is_folder=True)) == {"SKILL.md"}
    for named in ("good.zip", str(workspace / "good.zip")):
        assert set(skill_sources.inside(workspace, named, is_folder=False)) == {"SKILL.md"}


def _link(workspace: Path) -> None:
    (workspace / "linked").symlink_to(workspace.parent / "secret")


def _link_on_the_way(workspace: Path) -> None:
    (workspace / "up").symlink_to(workspace.parent)


def _link_inside(workspace: Path) -> None:
    (workspace / "good" / "more").symlink_to(workspace.parent / "secret")


def _hard_link(workspace: Path) -> None:
    (workspace / "good" / "more").hardlink_to(workspace.parent / "secret" / "SKILL.md")


def _pipe(workspace: Path) -> None:
    os.mkfifo(workspace / "good" / "pipe")


def _socket(workspace: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(workspace / "good" / "s"))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (None, "../secret"),
        (None, "good/../../secret"),
        (None, "/etc"),
        (_link, "linked"),
        (_link_on_the_way, "up/secret"),
        (_link_inside, "good"),
        (_hard_link, "good"),
        (_pipe, "good"),
        (_socket, "good"),
        (None, "nothing"),
        (None, "good/SKILL.md"),
    ],
)
def test_nothing_outside_of_a_workspace_is_read_whatever_leads_there(
    workspace: Path, make: Callable[[Path], None] | None, named: str
):
    if make is not None:
        make(workspace)
    with pytest.raises((ForbiddenError, NotFoundError, ValidationError)):
        skill_sources.inside(workspace, named, is_folder=True)


@pytest.mark.parametrize("named", ["linked.zip", "../secret.zip", "hard.zip", "pipe.zip", "good"])
def test_no_archive_outside_of_a_workspace_is_read(workspace: Path, named: str):
    (workspace / "linked.zip").symlink_to(workspace.parent / "secret.zip")
    (workspace / "hard.zip").hardlink_to(workspace.parent / "secret.zip")
    os.mkfifo(workspace / "pipe.zip")
    with pytest.raises((ForbiddenError, ValidationError)):
        skill_sources.inside(workspace, named, is_folder=False)
