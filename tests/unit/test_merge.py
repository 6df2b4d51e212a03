"""The merged log: the same order in every pass, whatever the writes were, and never a secret."""

from __future__ import annotations

import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.logs.merge import MAX_LINE_BYTES, create_log, records, write_merged_log
from aiagent_coordinator.logs.record import TICK_ROW, Record, Source, read_ticks
from aiagent_coordinator.logs.tail import read_tail
from aiagent_coordinator.redaction import Masker

START_NS = 1_780_000_000_000_000_000
STEP_NS = 250_000_000


def lay(
    folder: Path, out: bytes, err: bytes, ticks: list[tuple[int, int]], cut_row: bytes = b""
) -> Path:
    (folder / "out").write_bytes(out)
    (folder / "err").write_bytes(err)
    rows = [
        TICK_ROW.pack(START_NS + n * STEP_NS, n * STEP_NS, sizes[0], sizes[1])
        for n, sizes in enumerate(ticks)
    ]
    (folder / "ticks").write_bytes(b"".join(rows) + cut_row)
    return folder


def shown(lines: list[Record]) -> list[tuple[str, int, bytes]]:
    assert [record.seq for record in lines] == list(range(1, len(lines) + 1))
    return [(record.source.value, record.line_no, record.data) for record in lines]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def read_log(run_dir: Path, masker: Masker | None = None) -> list[str]:
    path = run_dir / "log"
    write_merged_log(run_dir, path, header="run run_1", masker=masker)
    return path.read_text("utf-8").splitlines()


def test_lines_come_by_tick_then_stream_then_number(run_dir: Path):
    lay(run_dir, b"o1\no2\no3\n", b"e1\ne2\n", [(3, 6), (9, 6)])
    assert shown(list(records(run_dir))) == [
        ("stdout", 1, b"o1"),
        ("stderr", 1, b"e1"),
        ("stderr", 2, b"e2"),
        ("stdout", 2, b"o2"),
        ("stdout", 3, b"o3"),
    ]


def test_a_line_has_the_time_of_the_tick_that_holds_its_end(run_dir: Path):
    lay(run_dir, b"begun and ended\n", b"", [(5, 0), (16, 0)])
    (line,) = records(run_dir)
    assert line.ts_ns == START_NS + STEP_NS
    assert line.ts_precision_ms == 250
    assert line.ts.isoformat() == "2026-05-28T20:26:40.250000+00:00"


def test_what_is_behind_the_last_tick_comes_last_and_the_unended_line_at_the_very_end(
    run_dir: Path,
):
    lay(run_dir, b"o1\no2\nunended", b"e1\ne2", [(3, 0)], cut_row=b"\0" * 31)
    assert shown(list(records(run_dir))) == [
        ("stdout", 1, b"o1"),
        ("stdout", 2, b"o2"),
        ("stderr", 1, b"e1"),
        ("stdout", 3, b"unended"),
        ("stderr", 2, b"e2"),
    ]
    assert {record.ts_ns for record in records(run_dir)} == {START_NS}


def test_a_run_without_ticks_or_without_files_is_readable(run_dir: Path):
    assert list(records(run_dir)) == []
    (run_dir / "out").write_bytes(b"a\n")
    assert shown(list(records(run_dir))) == [("stdout", 1, b"a")]


def test_sizes_that_shrink_in_damaged_ticks_do_no_harm(run_dir: Path):
    lay(run_dir, b"o1\no2\n", b"e1\n", [(6, 3), (0, 0)])
    assert [record.data for record in records(run_dir, is_ended=False)] == [b"o1", b"o2", b"e1"]
    assert list(read_ticks(run_dir / "ticks"))[1][2:] == (6, 3)


def test_an_empty_line_is_a_line(run_dir: Path):
    lay(run_dir, b"\n\na\n", b"", [(4, 0)])
    assert [record.data for record in records(run_dir)] == [b"", b"", b"a"]


TEXT = st.lists(st.sampled_from([b"a", b"\n", b"bc\n", b"\xff", "é".encode(), b"\r\n"])).map(
    b"".join
)
CUTS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=6)


@given(TEXT, TEXT, CUTS)
def test_every_pass_has_the_same_order_and_every_line_is_there_once(
    out: bytes, err: bytes, cuts: list[tuple[int, int]]
):
    ticks = sorted((min(a, len(out)), min(b, len(err))) for a, b in cuts)
    ticks = [(a, max(b for _, b in ticks[: n + 1])) for n, (a, _) in enumerate(ticks)]
    with tempfile.TemporaryDirectory() as name:
        run_dir = lay(Path(name), out, err, ticks)
        whole = list(records(run_dir))
        for stream, text in ((Source.OUT, out), (Source.ERR, err)):
            lines = [record.data for record in whole if record.source is stream]
            assert lines == (text.removesuffix(b"\n").split(b"\n") if text else [])
        # a pass while it ran, at each tick, is how the final one begins
        for number, (out_size, err_size) in enumerate(ticks, 1):
            lay(Path(name), out[:out_size], err[:err_size], ticks[:number])
            live = list(records(run_dir, is_ended=False))
            assert live == whole[: len(live)]
            assert len(live) == out[:out_size].count(b"\n") + err[:err_size].count(b"\n")


def test_the_readable_log_says_whose_it_is_then_when_where_what(run_dir: Path):
    lay(run_dir, b"hello\n", "grüße\n".encode(), [(6, 8)])
    assert read_log(run_dir) == [
        "# run run_1",
        "2026-05-28T20:26:40.000Z out hello",
        "2026-05-28T20:26:40.000Z err grüße",
    ]


def test_bytes_that_are_no_text_do_not_stop_it(run_dir: Path):
    lay(run_dir, b"\xff\xfe\xc3\nok\n", b"", [(7, 0)])
    assert [line[29:] for line in read_log(run_dir)[1:]] == ["\ufffd\ufffd\ufffd", "ok"]


def test_terminal_control_does_not_reach_the_readable_log(run_dir: Path):
    lay(run_dir, b"\x1b]0;title\x07\x1b[2Jclean\r\n\xc2\x9b31mnext\n", b"", [(40, 0)])
    assert [line[29:] for line in read_log(run_dir)[1:]] == ["clean", "31mnext"]


def test_the_readable_log_is_masked(run_dir: Path):
    secret = "hunter2-hunter2"
    lay(run_dir, f"a\nkey={secret}\n".encode() * 3, b"sess_" + b"0a" * 16, [(9, 0), (60, 20)])
    text = "\n".join(read_log(run_dir, Masker([secret])))
    assert secret not in text
    assert "sess_" not in text
    assert text.count("[masked]") == 4
    assert text.count(" out a") == 3


def test_a_secret_across_the_cut_of_a_long_line_is_masked_whole(run_dir: Path):
    secret = "hunter2-hunter2"
    line = b"x" * (MAX_LINE_BYTES - 5) + secret.encode() + b"y" * 100
    lay(run_dir, line + b"\nnext\n", b"", [(len(line) + 6, 0)])
    _, long, following = read_log(run_dir, Masker([secret]))
    assert "hunte" not in long
    assert long.endswith(f" … ({len(line)} bytes, cut)")
    assert following.endswith(" out next")


def test_a_line_of_five_megabytes_is_cut_where_it_is_shown_only(run_dir: Path):
    lay(run_dir, b"x" * 5_000_000 + b"\n", b"", [(5_000_001, 0)])
    (line,) = records(run_dir)
    assert (line.is_truncated, line.full_bytes) == (True, 5_000_000)
    _, long = read_log(run_dir)
    assert MAX_LINE_BYTES < len(long) < MAX_LINE_BYTES + 100


def test_a_log_beyond_its_bound_says_where_the_rest_is_and_can_be_written_in_full(run_dir: Path):
    line = b"a line of sixteen\n"
    lay(run_dir, line * 100_000, b"", [(len(line) * 100_000, 0)])
    path = run_dir / "log"
    cut = write_merged_log(run_dir, path, header="h", limit_bytes=500_000)
    assert not cut.is_complete
    last = path.read_text().splitlines()[-1]
    assert last.startswith("# cut here after ")
    assert str(run_dir) in last
    full = write_merged_log(run_dir, path, header="h", limit_bytes=None)
    assert (full.lines, full.is_complete) == (100_000, True)
    assert len(path.read_text().splitlines()) == 100_001


def test_a_log_that_ends_at_its_bound_is_complete(run_dir: Path):
    lay(run_dir, b"12345\n", b"", [(6, 0)])
    assert write_merged_log(run_dir, run_dir / "log", header="h", limit_bytes=6).is_complete


def test_memory_does_not_grow_with_the_output(run_dir: Path):
    (run_dir / "out").write_bytes(b"some output of an ordinary agent at work\n" * 400_000)
    (run_dir / "err").write_bytes(b"z" * 16_000_000)
    tracemalloc.start()
    try:
        write_merged_log(run_dir, run_dir / "log", header="h", limit_bytes=None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000


def test_a_log_exists_with_its_header_from_the_start(run_dir: Path):
    path = run_dir / "logs" / "project" / "agent" / "x.log"
    create_log(path, "run run_1\nforged sess_" + "0a" * 16)
    assert path.read_text() == "# run run_1 forged [masked]\n"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    create_log(path, "another")
    assert "forged" in path.read_text()


def test_a_log_is_never_written_through_a_link(run_dir: Path):
    lay(run_dir, b"a\n", b"", [(2, 0)])
    victim = run_dir / "victim"
    victim.write_text("untouched")
    for name in ("log", ".log.tmp"):
        (run_dir / name).symlink_to(victim)
    read_log(run_dir)
    assert victim.read_text() == "untouched"
    assert not (run_dir / "log").is_symlink()


def test_the_tail_is_the_end_of_the_file_and_nothing_of_a_missing_one(run_dir: Path):
    (run_dir / "err").write_bytes(b"0123456789")
    assert read_tail(run_dir / "err", 4) == b"6789"
    assert read_tail(run_dir / "err", 400) == b"0123456789"
    assert read_tail(run_dir / "none", 4) == b""
