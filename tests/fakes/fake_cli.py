"""A command that does what its arguments say, one after the other; exits 0 at the end.

    lines:N       N numbered lines on stdout             errlines:N    the same on stderr
    mb:N          N MiB of lines on stdout               line:N        one line of N bytes on stdout
    sleep:S       sleep S seconds                        forever       sleep until killed
    exit:N        exit with N                            signal:N      kill itself with signal N
    ignore-term   ignore TERM from here on               term-exit:N   exit with N when TERM comes
    stop          stop itself (SIGSTOP)                  stdin         copy stdin to stdout
    mark:FILE     append a line with the pid to FILE     wait:FILE     wait until FILE exists
    tag:WORD      nothing: a word to be found by
    dump          print environment, open descriptors, session, ignored signals, … as one JSON line
    spawn:SHAPE   start a descendant that never ends: child, setsid, daemon, stealth, hopper;
                  `spawn:child-ignoring` ignores TERM. Returns once it lives.

Descendants are forks, so they keep this command line: put a unique word into it to find them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

SHAPES = ("child", "setsid", "daemon", "stealth", "hopper")


def main() -> None:
    for action in sys.argv[1:]:
        name, _, value = action.partition(":")
        ACTIONS[name](value)


def emit(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def lines(value: str, descriptor: int = 1) -> None:
    for number in range(1, int(value) + 1):
        emit(descriptor, b"line %d\n" % number)


def megabytes(value: str) -> None:
    block = b"".join(b"%099d\n" % number for number in range(10486))[: 1024 * 1024]
    for _ in range(int(value)):
        emit(1, block)


def forever(_value: str) -> None:
    while True:
        time.sleep(3600)


def kill_self(value: str) -> None:
    if int(value) not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(int(value), signal.SIG_DFL)  # Python ignores some
    os.kill(os.getpid(), int(value))
    time.sleep(10)


def ignore_term(_value: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def exit_on_term(value: str) -> None:
    def leave(_number: int, _frame: object) -> None:
        os._exit(int(value))

    signal.signal(signal.SIGTERM, leave)


def mark(value: str) -> None:
    descriptor = os.open(value, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    emit(descriptor, b"%d\n" % os.getpid())
    os.close(descriptor)


def wait_for(value: str) -> None:
    while not os.path.exists(value):  # noqa: PTH110 - pathlib costs a third of the start
        time.sleep(0.005)


def copy_stdin(_value: str) -> None:
    while piece := os.read(0, 65536):
        emit(1, piece)


def dump(_value: str) -> None:
    with open("/proc/self/status") as file:  # noqa: PTH123 - pathlib costs a third of the start
        status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
    with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - as above
        environment = file.read().decode("utf-8", "surrogateescape").split("\0")[:-1]
    facts = {
        "environment": environment,
        # The last is the listing's own.
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],  # noqa: PTH208 - as above
        "argv": sys.argv,
        "cwd": os.getcwd(),  # noqa: PTH109 - as above
        "pid": os.getpid(),
        "session": os.getsid(0),
        "ignored": status["SigIgn"].strip(),
        "blocked": status["SigBlk"].strip(),
    }
    emit(1, json.dumps(facts).encode() + b"\n")


def spawn(shape: str) -> None:
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        become(shape, writer)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)


def become(shape: str, writer: int) -> None:
    if shape in ("setsid", "daemon", "stealth"):
        os.setsid()
    if shape in ("daemon", "stealth") and os.fork():
        os._exit(0)
    if shape in ("stealth", "child-ignoring"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(writer, b"1")
    os.close(writer)
    if shape == "stealth":
        os.environ.clear()
        os.closerange(0, 256)
    if shape == "hopper":
        hop()
    forever("")


def hop() -> None:
    """Never the same process for long: each lives 3 ms and leaves a child behind."""
    while True:
        time.sleep(0.003)
        if os.fork():
            os._exit(0)


def one_line(value: str) -> None:
    emit(1, b"x" * (int(value) - 1) + b"\n")


def leave_with(value: str) -> None:
    os._exit(int(value))


def sleep(value: str) -> None:
    time.sleep(float(value))


def stop_self(_value: str) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def error_lines(value: str) -> None:
    lines(value, 2)


def nothing(_value: str) -> None:
    """A word to be found by."""


ACTIONS = {
    "lines": lines,
    "errlines": error_lines,
    "mb": megabytes,
    "line": one_line,
    "sleep": sleep,
    "forever": forever,
    "exit": leave_with,
    "signal": kill_self,
    "ignore-term": ignore_term,
    "term-exit": exit_on_term,
    "stop": stop_self,
    "stdin": copy_stdin,
    "mark": mark,
    "wait": wait_for,
    "dump": dump,
    "spawn": spawn,
    "tag": nothing,
}

if __name__ == "__main__":
    main()
