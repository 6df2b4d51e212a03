"""Logs under everything that can happen to them: nothing is lost, nothing is obeyed, memory stays small.

`AIAGENT_LONG=1` writes a gigabyte where the short form writes 64 MB.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiagent_coordinator.logs.follow import Follower, Reset
from aiagent_coordinator.logs.merge import records
from aiagent_coordinator.logs.record import Record, Source
from aiagent_coordinator.providers.transcript import error_texts
from support.fleet import Fleet, fleet, kill
from support.house import COORDINATOR, until

LONG = bool(os.environ.get("AIAGENT_LONG"))
MEGABYTES = 1000 if LONG else 64


def tick(folder: Path, out: int, err: int = 0) -> None:
    """Append one row, as the shim does."""
    with (folder / "ticks").open("ab") as file:
        file.write(struct.pack("<qqqq", time.time_ns(), time.monotonic_ns(), out, err))


def lines(found: list[Record | Reset]) -> list[bytes]:
    return [one.data for one in found if isinstance(one, Record)]


def test_a_log_that_is_cut_replaced_renamed_or_removed_is_told_and_read_on(tmp_path: Path):
    """Each is one reset with the new file's inode; no line is invented, and nothing goes round."""
    out = tmp_path / "out"
    follower = Follower(tmp_path)
    assert list(follower.read(is_ended=False)) == []
    out.write_bytes(b"one\ntwo\n")
    tick(tmp_path, 8)
    assert lines(list(follower.read(is_ended=False))) == [b"one", b"two"]
    assert list(follower.read(is_ended=False)) == []

    os.truncate(out, 0)
    with out.open("ab") as file:
        file.write(b"new\n")
    reset, line = follower.read(is_ended=False)
    assert reset == Reset(Source.OUT, out.stat().st_ino)
    assert isinstance(line, Record)
    assert (line.data, line.line_no, line.seq) == (b"new", 1, 3)

    out.rename(tmp_path / "out.1")
    out.write_bytes(b"other\n")
    found = list(follower.read(is_ended=False))
    assert found[0] == Reset(Source.OUT, out.stat().st_ino)
    assert lines(found) == [b"other"]

    out.unlink()
    assert list(follower.read(is_ended=False)) == [Reset(Source.OUT, 0)]
    assert list(follower.read(is_ended=False)) == []
    for plant in (lambda: out.symlink_to("/etc/passwd"), lambda: os.mkfifo(out), out.mkdir):
        plant()
        assert lines(list(follower.read(is_ended=True))) == []
        out.rmdir() if out.is_dir() and not out.is_symlink() else out.unlink()
    out.write_bytes(b"back\nwith an open end")
    assert lines(list(follower.read(is_ended=True))) == [b"back", b"with an open end"]
    follower.close()


def test_following_in_any_pieces_gives_what_one_pass_gives(tmp_path: Path):
    """Cut at every byte, through lines and characters alike: same lines, same order, same text."""
    text = "日本語 und Ümläute 🚀\nsecond\n\nlast without an end — ж"
    data = text.encode()
    expected = text.split("\n")
    for cut in range(len(data) + 1):
        folder = tmp_path / str(cut)
        folder.mkdir()
        follower = Follower(folder)
        found: list[Record | Reset] = []
        for part in (data[:cut], data[cut:]):
            with (folder / "out").open("ab") as file:
                file.write(part)
            tick(folder, (folder / "out").stat().st_size)
            found += follower.read(is_ended=False)
        found += follower.read(is_ended=True)
        follower.close()
        followed = [one for one in found if isinstance(one, Record)]
        assert [record.message for record in followed] == expected, cut
        whole = list(records(folder))
        assert [(r.seq, r.line_no, r.data) for r in followed] == [
            (r.seq, r.line_no, r.data) for r in whole
        ]


MEASURED = """
import sys, resource
from pathlib import Path
from aiagent_coordinator.logs.follow import Follower
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
follower = Follower(Path(sys.argv[1]))
longest = 0
for record in follower.read(is_ended=True):
    longest = max(longest, len(record.data))
print(longest, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_line_of_a_hundred_megabytes_is_cut_where_it_is_read_and_whole_on_the_disk(
    tmp_path: Path,
):
    with (tmp_path / "out").open("wb") as file:
        for _ in range(100):
            file.write(b"x" * 1024**2)
        file.write(b"\nnext\n")
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path)], capture_output=True, check=True, text=True
    )
    longest, grown_kib = map(int, done.stdout.split())
    assert longest <= 1024**2 + 4096
    assert grown_kib < 64 * 1024
    found = list(records(tmp_path))
    assert [(one.full_bytes, one.is_truncated) for one in found] == [
        (100 * 1024**2, True),
        (4, False),
    ]
    assert (tmp_path / "out").stat().st_size == 100 * 1024**2 + 6


@pytest.mark.parametrize("size", [200_000, 2_000_000])
def test_a_long_line_of_json_costs_neither_itself_nor_the_next(tmp_path: Path, size: int):
    """The limit of asyncio's readers lost both."""
    long = json.dumps({"type": "assistant", "text": "y" * size})
    last = json.dumps({"type": "result", "is_error": True, "result": "Not logged in"})
    (tmp_path / "out").write_text(f"{long}\n{last}\n", encoding="utf-8")
    found = list(records(tmp_path))
    assert [one.full_bytes for one in found] == [len(long), len(last)]
    if size <= 1024**2:
        assert json.loads(found[0].data)["text"] == "y" * size
    assert error_texts("claude-stream", (tmp_path / "out").read_bytes())[0] == "Not logged in"


@pytest.fixture(scope="module")
def ships(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    root = Path(os.path.realpath(tmp_path_factory.mktemp("l", numbered=True)))
    with fleet(root, 5) as made:
        process = made.coordinate()
        yield made
        made.stop(process)


NASTY = (
    b"plain\n"
    b"\xff\xfe not utf-8 \x00 nul\n"
    b"\x1b]52;c;ZXZpbA==\x07clipboard \x1b]0;title\x07 \x1b[2J\x1b[1;31mred\x1b[0m\n"
    b"10%\r50%\r100%\n"
    b"\xed\xa0\x80 lone surrogate \xc2\x9b31m c1\n"
    b"after all that\n"
)


def test_what_an_agent_prints_is_shown_and_never_obeyed(ships: Fleet):
    """Bytes of every kind stop no command, and no escape that does more than colour comes out."""
    (number,) = ships.take(1)
    folder = ships.project(number)
    (folder / "bytes").write_bytes(NASTY)
    (folder / "do.sh").write_text("cat bytes; cat bytes >&2; exit 0")
    task = ships.add(number)
    ships.over([number])
    (run,) = ships.runs(number)
    assert (ships.run_dir(run) / "out").read_bytes() == NASTY
    for arguments in (
        ("logs", task),
        ("logs", "-f", task),
        ("logs", task, "--json"),
        ("status",),
        ("task", "list"),
        ("run", "show", run["id"]),
    ):
        done = subprocess.run(
            [*COORDINATOR, *arguments, "--config", str(ships.home.config)],
            capture_output=True,
            env={**os.environ, **ships.home.env},
            timeout=60,
            check=True,
        )
        shown = done.stdout.decode("utf-8")  # strictly: what comes out is text
        for control in ("\x1b", "\x07", "\x00", "\x9b"):
            assert control not in shown, (arguments, control)
        if arguments[0] == "logs":
            assert shown.count("after all that") == 2
            assert shown.count("lone surrogate") == 2
    readable = Path(run["log_path"]).read_bytes().decode("utf-8")
    assert readable.count("after all that") == 2
    assert "\x1b" not in readable


def test_a_follower_that_went_away_goes_on_where_it_stood(ships: Fleet):
    """By the number of the last line it had: no gap, no repeat, in as many parts as you like."""
    (number,) = ships.take(1)
    count = 400
    (ships.project(number) / "do.sh").write_text(
        f"i=0; while [ $i -lt {count} ]; do echo line $i; i=$((i+1));"
        " [ $((i % 100)) = 0 ] && sleep 0.4; done; : < gate; echo end"
    )
    task = ships.add(number)
    until("it runs", lambda: [run for run in ships.runs(number) if run["phase"] == "running"])
    chance = random.Random(number)
    seen: list[str] = []
    last = 0
    while not seen or seen[-1] != "end":
        after, config = ("--after", str(last)), ("--config", str(ships.home.config))
        follower = subprocess.Popen(
            [*COORDINATOR, "logs", "-f", task, "--json", *after, *config],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **ships.home.env},
        )
        assert follower.stdout is not None
        for _ in range(chance.randrange(60, 200)):
            line = follower.stdout.readline()
            if not line:
                break
            record = json.loads(line)
            assert record["seq"] == last + 1
            last = record["seq"]
            seen.append(record["message"])
            if len(seen) == count:
                ships.open_gate(number)
        kill(follower)
        follower.stdout.close()
    assert seen == [*(f"line {i}" for i in range(count)), "end"]


def peak_kib(pid: int) -> int:
    """The largest resident size of a process so far."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def test_a_flood_is_whole_on_the_disk_and_costs_the_coordinator_no_memory(ships: Fleet):
    numbers = ships.take(2)
    process = [one for one in ships.home.processes if one.poll() is None][-1]
    # a first run loads what every run needs
    ships.open_gate(numbers[0])
    ships.add(numbers[0])
    ships.over([numbers[0]])
    before = peak_kib(process.pid)
    size = MEGABYTES * 1000**2
    (ships.project(numbers[1]) / "do.sh").write_text(
        f"yes 'a line of a flood that never seems to end' | head -c {size}"
    )
    ships.add(numbers[1])
    ships.over([numbers[1]])
    (run,) = ships.runs(numbers[1])
    digest = hashlib.sha256()
    with (ships.run_dir(run) / "out").open("rb") as file:
        while chunk := file.read(1024**2):
            digest.update(chunk)
    pattern = b"a line of a flood that never seems to end\n"
    expected = hashlib.sha256()
    whole, rest = divmod(size, len(pattern))
    block = pattern * 10_000
    for _ in range(whole // 10_000):
        expected.update(block)
    expected.update(pattern * (whole % 10_000) + pattern[:rest])
    assert digest.digest() == expected.digest()
    assert peak_kib(process.pid) - before < 50 * 1024
