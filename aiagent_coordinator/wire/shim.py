"""The parent of one command: starts it, writes down how it ended, leaves nothing of it behind.

Run as `python -I -S shim.py DIRECTORY LOCK_FD` from a copy in the run directory. Knows nothing of
coordinators: it outlives them. Standard library only; the lock stays held until the tree is gone.
"""

import os
import select
import sys
import time

TYPE_CHECKING = False  # typing's own constant would cost its import
if TYPE_CHECKING:
    import resource
    import signal
    from collections.abc import Callable, Iterator
    from typing import Any

    make_scanner: Callable[[object], Callable[[str, int], tuple[Any, int]]] | None
    encode_basestring_ascii: Callable[[str], str]
else:
    # The C halves: the public modules pull in enum and re, which doubles the start of a shim.
    try:
        import _signal as signal
    except ImportError:
        import signal
    try:
        from _json import encode_basestring_ascii, make_scanner
    except ImportError:
        from json.encoder import encode_basestring_ascii

        make_scanner = None

#: The whole exit record; its room is taken before anything starts, so a full disk cannot lose it.
RECORD_BYTES = 4096
#: What the coordinator writes as spec.json is far smaller; more is damage.
SPEC_BYTES = 4 * 1024 * 1024
#: More than the server takes as an answer.
ANSWER_BYTES = 1024 * 1024
#: Characters of an error in the record: twelve bytes each at worst, and it must fit.
ERROR_CHARS = 300
#: What is about to end by itself when its parent ends (a bridge, a server on pipes) is no leftover.
SETTLE_SECONDS = 0.2
#: What a command left behind gets between TERM and KILL once it has ended by itself.
LEFTOVER_SECONDS = 0.5
#: So many leftovers are named, and so much of each command line.
LEFTOVERS = 20
LEFTOVER_CHARS = 200
#: Added to the score by which the kernel chooses whom to kill: a CLI goes before its shim and us.
OOM_SCORE = 500
#: Rows of `ticks` are at least this far apart.
TICK_SECONDS = 0.25
#: Without inotify a quiet command is looked at this often, after the first half minute.
QUIET_SECONDS = 2.0
BRISK_FOR_SECONDS = 30.0
#: What outlives a stopped command is asked to end again after so long: the first pause, the longest.
ASK_AGAIN_SECONDS = (0.5, 5.0)
#: Rounds of KILL: quick at first, slow for what cannot die (another user's, or stuck in the kernel).
KILL_AGAIN_SECONDS = (0.005, 1.0)
#: Looks for who forked meanwhile before a round of KILL goes ahead without.
FREEZE_ROUNDS = 20
#: Between tries of a fork that the system refuses.
FORK_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
#: What `ps`, `pkill` and `killall` see: no CLI has that name, and agents kill by name.
TITLE = "aac-shim"
# Numbers of prctl(2), then of inotify(7).
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
IN_MODIFY_ONCE = 0x80000002
CREATE = os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class NotStartedError(Exception):
    """The command was not started; reason and text go into the record."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def libc(name: str, *arguments: int | bytes) -> int:
    """Call a function of the C library; -1 where there is no such thing."""
    if not sys.platform.startswith("linux"):
        return -1
    try:
        from _ctypes import call_function, dlopen, dlsym  # noqa: PLC0415 - Linux alone needs it

        # None is this program itself; the stub does not know that it may be.
        handle = dlopen(None, os.RTLD_NOW)  # pyright: ignore[reportArgumentType]
        return call_function(dlsym(handle, name), arguments)
    except (ImportError, OSError):
        pass
    try:
        import ctypes  # noqa: PLC0415 - the public, slower way to the same

        return getattr(ctypes.CDLL(None), name)(*arguments)
    except (ImportError, OSError, AttributeError):
        return -1


def read_spec() -> "dict[str, Any]":
    """Read spec.json. ValueError or OSError when it is not what a coordinator writes."""
    with open("spec.json", "rb") as file:
        text = file.read(SPEC_BYTES).decode()

    class Context:
        strict = True
        object_hook = object_pairs_hook = None
        parse_float = parse_constant = float
        parse_int = int

    try:
        if make_scanner is not None:
            return make_scanner(Context)(text, 0)[0]
    except (StopIteration, SystemError):
        pass  # the scanner alone cannot say what is wrong
    import json  # noqa: PLC0415 - see the imports

    return json.loads(text)


def quote(text: str | None) -> str:
    """Write a JSON string or null."""
    return "null" if text is None else encode_basestring_ascii(text)


def say(error: OSError) -> str:
    """One line about an error of the system."""
    return ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)


def stat_fields(pid: int | str) -> list[bytes]:
    """What follows the name in /proc/PID/stat: state, parent, … start ticks at 19. Empty: no such."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def identity(pid: int) -> str:
    """The members that tell a process from a later one with its number."""
    fields = stat_fields(pid)
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            boot = file.read().strip().decode()
    except OSError:
        boot = ""
    ticks = int(fields[19]) if len(fields) > 19 else 0
    return f'"v": 1, "pid": {pid}, "start_ticks": {ticks}, "boot_id": "{boot}"'


def set_title(name: str, what: str) -> None:
    """Be shown as this name and what it is about, where the system lets us (Linux).

    What is too long for the room of the own arguments loses its beginning.
    """
    try:
        with open("/proc/self/comm", "wb") as file:
            file.write(name.encode()[:15])
        fields = stat_fields("self")
        begin, end = int(fields[45]), int(fields[46])
        about, room = os.fsencode(what), end - begin - len(name) - 2
        if len(about) > room:
            about = b"..." + about[len(about) - room + 3 :]
        memory = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(memory, (name.encode() + b" " + about).ljust(end - begin, b"\0"), begin)
        finally:
            os.close(memory)
    except (OSError, IndexError, ValueError):
        pass  # a name is all that is lost


def command_of(pid: int) -> str:
    """The command line of a process, or its name where it shows none."""
    for name in ("cmdline", "comm"):
        try:
            with open(f"/proc/{pid}/{name}", "rb") as file:
                words = file.read(4096).replace(b"\0", b" ").strip()
        except OSError:
            continue
        if words:
            return words.decode("utf-8", "replace")
    return ""


def open_plain(name: str, flags: int) -> int:
    """Open a plain file of the run directory, never through a link, never blocking on a FIFO."""
    descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    if os.fstat(descriptor).st_mode & 0o170000 != 0o100000:
        os.close(descriptor)
        raise NotStartedError("spawn_failed", f"{name}: not a plain file")
    os.set_blocking(descriptor, True)
    return descriptor


def clean_environment() -> dict[bytes, bytes]:
    """The environment this process was given: Python adds LC_CTYPE to its own copy in the C locale."""
    try:
        with open("/proc/self/environ", "rb") as file:
            entries = [entry.partition(b"=") for entry in file.read().split(b"\0")]
    except OSError:
        return dict(os.environb)
    return {name: value for name, equals, value in entries if name and equals}


class Ticks:
    """Rows of (wall ns, monotonic ns, size of out, size of err), written when a size has changed."""

    def __init__(self, out: int, err: int) -> None:
        self.streams = (out, err)
        self.file = open_plain("ticks", os.O_RDWR | os.O_CREAT)
        self.offset = os.fstat(self.file).st_size // 32 * 32
        self.sizes = (0, 0)
        self.brisk_until = time.monotonic() + BRISK_FOR_SECONDS
        #: When to look next; None while inotify will tell.
        self.due: float | None = 0.0
        self.notify = libc("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)

    def measure(self) -> tuple[int, int]:
        """The sizes of out and err now."""
        return (os.fstat(self.streams[0]).st_size, os.fstat(self.streams[1]).st_size)

    def write(self, sizes: tuple[int, int]) -> None:
        """Append one row. A full disk costs rows, never their alignment."""
        self.sizes = sizes
        numbers = (time.time_ns(), time.monotonic_ns(), *sizes)
        row = b"".join(number.to_bytes(8, "little", signed=True) for number in numbers)
        try:
            if os.pwrite(self.file, row, self.offset) == len(row):
                self.offset += len(row)
        except OSError:
            pass

    def look(self, now: float) -> None:
        """Write a row if there is news, and settle when to look again."""
        sizes = self.measure()
        if sizes == self.sizes and self.arm():
            # What was written before the watch was set has no event.
            self.due = None
            sizes = self.measure()
        if sizes != self.sizes:
            self.write(sizes)
            self.due = now + TICK_SECONDS
        elif self.due is not None:
            self.due = now + (TICK_SECONDS if now < self.brisk_until else QUIET_SECONDS)

    def arm(self) -> bool:
        """Ask for one event per stream: a busy command pays for one, not for every write."""
        if self.notify < 0:
            return False
        paths = [b"/proc/self/fd/%d" % stream for stream in self.streams]
        return all(
            libc("inotify_add_watch", self.notify, path, IN_MODIFY_ONCE) >= 0 for path in paths
        )

    def wake(self) -> None:
        """Take the events; what they mean is that it is time to look."""
        try:
            while os.read(self.notify, 65536):
                pass
        except OSError:
            pass
        self.due = 0.0


class Tree:
    """The command and everything it started."""

    def __init__(self) -> None:
        reaping = libc("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
        #: False: orphans escape to init, and only the command's own group can be reached.
        self.is_whole = reaping and os.path.isdir("/proc/self/task")
        self.main = 0
        self.is_gone = False
        #: Status and usage of the main process once it has ended.
        self.ended: tuple[int, resource.struct_rusage] | None = None
        #: Holds the tree and nothing else, where the system offers that.
        self.cgroup: bytes | None = None

    def reap(self) -> None:
        """Take every ended child; notes the main one's end, and when there are no more."""
        try:
            while True:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.main:
                    self.ended = (status, usage)
        except ChildProcessError:
            self.is_gone = self.is_whole or not self.has_group()

    def has_group(self) -> bool:
        """Whether the command's own group has members."""
        try:
            os.killpg(self.main, 0)
        except OSError:
            return False  # macOS says EPERM when only zombies are left
        return True

    def signal(self, number: int) -> None:
        """Signal every process of the tree that is there now."""
        if number == signal.SIGKILL and self.cgroup:
            # The kernel kills all of it at once, whatever forks meanwhile. The round below stays:
            # joining may have failed.
            write_to(self.cgroup + b"/cgroup.kill", b"1")
        if not self.is_whole:
            attempt(os.killpg, self.main, number)
            return
        if number == signal.SIGKILL:
            self.freeze()
        for parent, child in self.walk():
            send(child, parent, number)

    def freeze(self) -> None:
        """Stop all of it before it is killed: who is stopped forks nobody and keeps its place.

        A bomb at its limit would else fill every place that a killed member leaves.
        """
        stopped: set[int] = set()
        for _ in range(FREEZE_ROUNDS):
            running = [(parent, child) for parent, child in self.walk() if child not in stopped]
            if not running:
                return
            for parent, child in running:
                send(child, parent, signal.SIGSTOP)
                stopped.add(child)

    def walk(self) -> "Iterator[tuple[int, int]]":
        """Every process below us as (parent, child), parents first."""
        parents = [os.getpid()]
        for parent in parents:
            for child in children_of(parent):
                parents.append(child)
                yield parent, child

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed something of it for memory: only its own counter says so."""
        if self.cgroup is None:
            return False
        try:
            with open(self.cgroup + b"/memory.events", "rb") as file:
                counts = dict(line.split() for line in file)
        except (OSError, ValueError):
            return False
        return counts.get(b"oom_kill", b"0") != b"0"

    def remove_cgroup(self) -> None:
        """Take the group away once it is empty."""
        if self.cgroup:
            attempt(os.rmdir, self.cgroup)


def write_to(path: bytes, content: bytes) -> None:
    """Write to a file of the kernel, if it lets us."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    attempt(os.write, descriptor, content)
    os.close(descriptor)


def children_of(pid: int) -> list[int]:
    """The children of a process: of all its threads, as the kernel lists them, else by a scan."""
    try:
        found: list[int] = []
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except FileNotFoundError:
        if os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
            return []
        wanted = b"%d" % pid
        everyone = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        return [one for one in everyone if stat_fields(one)[1:2] == [wanted]]
    except OSError:
        return []
    return found


def send(pid: int, parent: int, number: int) -> None:
    """Signal a process if it still is that parent's child: a number may have gone to a stranger."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (OSError, AttributeError):
        handle = -1
    try:
        if stat_fields(pid)[1:2] != [b"%d" % parent]:
            return
        if handle < 0:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(handle, number)
    except OSError:
        pass
    finally:
        if handle >= 0:
            os.close(handle)


class Shim:
    """One command from gate to sweep."""

    def __init__(self) -> None:
        self.record_file = reserve_record()
        self.tree = Tree()
        self.started_at: int | None = None
        self.stop: str | None = None
        #: When to send KILL (again); None while nothing is to die.
        self.kill_at: float | None = None
        self.kill_pause = KILL_AGAIN_SECONDS[0]
        #: When what a stopped command left is asked again, and the pause after that.
        self.ask_at: float | None = None
        self.ask_pause = ASK_AGAIN_SECONDS[0]
        #: When what is still there counts as left behind; None before the end and after the look.
        self.settle_at: float | None = None
        self.err = -1
        self.ticks: Ticks | None = None
        #: Where answers go, what of them is still to be written, and which were taken up.
        self.feed = -1
        self.unfed = b""
        self.fed: set[str] = set()

    def run(self) -> None:
        """Do everything; returns when the lock may go."""
        try:
            self.prepare()
            self.pass_gate()
            self.start()
        except NotStartedError as error:
            self.give_up(error)
            return
        except Exception as error:
            if self.tree.main:
                raise  # the command runs: dying with it is `lost`, a record would be a lie
            text = say(error) if isinstance(error, OSError) else f"spec.json: {error!r}"
            self.give_up(NotStartedError("spawn_failed", text))
            return
        self.watch()

    def prepare(self) -> None:
        """Open what the command needs, so that what is wrong shows before the gate."""
        self.wakeup = listen_to_signals()
        append = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self.err = open_plain("err", append)
        spec = read_spec()
        if spec["format"] != 1:
            raise NotStartedError("spawn_failed", "spec.json: written by another version")
        self.argv: list[bytes] = [part.encode("utf-8", "surrogateescape") for part in spec["argv"]]
        if not self.argv or not os.path.isabs(self.argv[0]):
            raise NotStartedError("spawn_failed", "the command is no absolute path")
        self.cwd: bytes = spec["cwd"].encode("utf-8", "surrogateescape")
        self.gate: float | None = spec["gate_seconds"]
        self.grace = float(spec["grace_seconds"])
        self.kills_leftovers: bool = spec["kill_leftovers"]
        self.rlimits: dict[str, int] = spec.get("rlimits") or {}
        cgroup: str | None = spec.get("cgroup")
        self.tree.cgroup = os.fsencode(cgroup) if cgroup else None
        self.joins_late: bool = spec.get("cgroup_late", False)
        out = open_plain("out", append)
        if spec["stdin"] == "prompt":
            stdin = open_plain("prompt", os.O_RDONLY)
        elif spec["stdin"] == "answers":
            stdin, self.feed = os.pipe()
            os.set_blocking(self.feed, False)
        else:
            stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self.streams = (stdin, out, self.err)
        self.ticks = Ticks(out, self.err)
        # Open for both: without readers a coordinator could not say anything, without writers we would spin.
        self.ctl = os.open("ctl", os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        if os.fstat(self.ctl).st_mode & 0o170000 != 0o010000:
            raise NotStartedError("spawn_failed", "ctl: not a FIFO")

    def hear(self, timeout: float | None, *others: int) -> tuple[bytes, list[int]]:
        """Wait for words of the coordinator (a TERM of ours is a T), ended children, or others."""
        hungry = (self.feed,) if self.unfed else ()
        ready, fed, _ = select.select((self.wakeup, self.ctl, *others), hungry, (), timeout)
        if fed:
            self.feed_more()
        words = b""
        if self.wakeup in ready and signal.SIGTERM in drain(self.wakeup):
            words += b"T"
        if self.ctl in ready:
            words += drain(self.ctl)
        return words, ready

    def take_answers(self) -> None:
        """Take up the answers that lie there, oldest name first, each once."""
        if self.feed < 0:
            return
        try:
            names = sorted(os.listdir("answers"))
        except OSError:
            return
        for name in names:
            if name.startswith(".") or name in self.fed:
                continue
            try:
                with open(open_plain(f"answers/{name}", os.O_RDONLY), "rb") as file:
                    self.unfed += file.read(ANSWER_BYTES)
            except (OSError, NotStartedError):
                continue
            self.fed.add(name)

    def feed_more(self) -> None:
        """Write what the command's standard input takes now; it may have closed it."""
        try:
            self.unfed = self.unfed[os.write(self.feed, self.unfed) :]
        except BlockingIOError:
            pass
        except OSError:
            self.unfed = b""

    def pass_gate(self) -> None:
        """Wait until the coordinator has told the server of this run; without a gate only look."""
        deadline = time.monotonic() + (self.gate or 0.0)
        while True:
            words, _ = self.hear(max(0.0, deadline - time.monotonic()))
            for stop in ("K", "T"):
                if stop.encode() in words:
                    self.stop = stop
                    raise NotStartedError("not_started", "stopped before it started")
            if self.gate is None or b"G" in words:
                return
            if time.monotonic() >= deadline:
                raise NotStartedError("not_started", f"nobody said go within {self.gate:g} s")

    def start(self) -> None:
        """Fork and exec. From here on until the record, whoever finds the lock free says `lost`."""
        environment = clean_environment()
        marker = os.open("started.tmp", os.O_WRONLY | os.O_TRUNC | CREATE, 0o600)
        reader, writer = os.pipe()
        parent = os.getpid()
        pid = fork()
        if pid == 0:
            self.become(environment, writer, parent)
        self.tree.main = pid
        os.close(writer)
        with open(reader, "rb") as answer:
            trouble = answer.read()
        if trouble:
            os.waitpid(pid, 0)
            raise NotStartedError("spawn_failed", trouble.decode("utf-8", "replace"))
        if self.feed >= 0:
            os.close(self.streams[0])  # the command has it: when that closes it, we are to notice
        self.started_at = time.time_ns()
        # Should these fail, the marker alone says that it was started.
        attempt(os.write, marker, f'{{{identity(pid)}, "at_ns": {self.started_at}}}\n'.encode())
        attempt(os.rename, "started.tmp", "started")
        os.close(marker)
        if self.tree.cgroup and self.joins_late:
            # Joining takes the kernel 12 ms and more. Where the group only serves to kill the tree,
            # the command need not wait for it: what it forks meanwhile is found by the walk.
            write_to(self.tree.cgroup + b"/cgroup.procs", b"%d" % pid)

    def become(self, environment: dict[bytes, bytes], writer: int, parent: int) -> None:
        """Turn this child into the command. Never returns."""
        what = b"cannot start"
        try:
            os.setsid()
            if self.tree.is_whole:
                libc("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() != parent:
                    os._exit(127)
            self.confine()
            for number in range(1, signal.NSIG):
                try:
                    signal.signal(number, signal.SIG_DFL)
                except (OSError, ValueError):
                    pass
            for target, source in enumerate(self.streams):
                os.dup2(source, target)
            what = b"working directory " + self.cwd
            os.chdir(self.cwd)
            what = b"cannot start " + self.argv[0]
            os.execve(self.argv[0], self.argv, environment)  # noqa: S606 - that is its job
        except OSError as error:
            detail = error.strerror or repr(error)
            if what.endswith(self.argv[0]) and isinstance(error, FileNotFoundError):
                detail += " (its interpreter)" if os.path.exists(self.argv[0]) else ""
            os.write(writer, what + b": " + detail.encode())
        except BaseException as error:  # noqa: BLE001 - nothing may unwind into the parent's code
            os.write(writer, what + b": " + repr(error).encode("utf-8", "replace"))
        os._exit(127)

    def confine(self) -> None:
        """In the child: into its group, under its limits, first in line when memory runs out.

        What the system refuses is left out: a run without it is better than none.
        """
        write_to(b"/proc/self/oom_score_adj", b"%d" % min(1000, own_oom_score() + OOM_SCORE))
        if self.tree.cgroup and not self.joins_late:
            write_to(self.tree.cgroup + b"/cgroup.procs", b"0")
        import resource  # noqa: PLC0415 - the child alone needs it

        for name, wanted in {"core": 0, **self.rlimits}.items():
            number = getattr(resource, f"RLIMIT_{name.upper()}", None)
            if number is None:
                continue
            _, hard = resource.getrlimit(number)
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            try:
                resource.setrlimit(number, (most, most))
            except (OSError, ValueError):
                pass

    def watch(self) -> None:
        """Until the tree is gone: tick, listen, kill; write the record when the main process ends."""
        assert self.ticks is not None  # noqa: S101 - prepare() made it
        recorded = False
        while not (recorded and (self.tree.is_gone or self.is_let_go)):
            now = time.monotonic()
            if self.ticks.due is not None and now >= self.ticks.due:
                self.ticks.look(now)
            due = [
                when
                for when in (self.ticks.due, self.kill_at, self.settle_at, self.ask_at)
                if when is not None
            ]
            timeout = max(0.0, min(due) - now) if due else None
            notify = () if self.ticks.due is not None else (self.ticks.notify,)
            words, ready = self.hear(timeout, *notify)
            if notify and notify[0] in ready:
                self.ticks.wake()
            # Children first: a stop that comes after the end did not cause it.
            self.tree.reap()
            if self.tree.ended and not recorded:
                recorded = True
                self.finish()
            self.obey(words)
            if b"A" in words:
                self.take_answers()
        self.ticks.write(self.ticks.measure())
        if self.tree.is_gone:
            self.tree.remove_cgroup()

    @property
    def is_let_go(self) -> bool:
        """Whether what is still there may stay."""
        return self.kill_at is None and self.settle_at is None

    def obey(self, words: bytes) -> None:
        """T: TERM, then KILL after the grace. K: KILL now. Repeating them changes nothing."""
        now = time.monotonic()
        if b"K" in words:
            self.stop = "K"
            self.kill_at = now
        elif b"T" in words and self.stop is None and self.kill_at is None:
            self.stop = "T"
            self.kill_at = now + self.grace
            self.ask_to_end()
        if self.settle_at is not None and now >= self.settle_at:
            self.settle_at = None
            self.leave_behind(now)
        if self.ask_at is not None and now >= self.ask_at:
            # Between its fork and its program a process may take a signal for its parent's and lose it.
            self.ask_to_end()
            self.ask_at = now + self.ask_pause
            self.ask_pause = min(self.ask_pause * 2, ASK_AGAIN_SECONDS[1])
        if self.kill_at is not None and now >= self.kill_at:
            self.tree.signal(signal.SIGKILL)
            self.kill_at = now + self.kill_pause
            self.kill_pause = min(self.kill_pause * 1.5, KILL_AGAIN_SECONDS[1])

    def ask_to_end(self) -> None:
        """TERM to all that is there."""
        self.tree.signal(signal.SIGTERM)
        self.tree.signal(signal.SIGCONT)  # a stopped process hears TERM only when it continues

    def finish(self) -> None:
        """The main process has ended: write the record, then see to what it left behind."""
        assert self.ticks is not None  # noqa: S101 - prepare() made it
        if self.tree.ended is None:
            return
        status, usage = self.tree.ended
        if self.ticks.measure() != self.ticks.sizes:
            self.ticks.write(self.ticks.measure())
        reason = {None: None, "T": "stopped", "K": "killed"}[self.stop]
        if reason is None and status == signal.SIGKILL and self.tree.ran_out_of_memory():
            reason = "oom"
        self.write_record(reason, None, status, usage)
        if self.stop == "T" and not self.tree.is_gone:
            # what it started in the moment of our TERM has not heard it
            self.ask_to_end()
            self.ask_at = time.monotonic() + self.ask_pause
        if self.kill_at is None:
            self.settle_at = time.monotonic() + SETTLE_SECONDS

    def leave_behind(self, now: float) -> None:
        """Name what the command left, and end it unless it may stay."""
        if self.kill_at is not None or self.tree.is_gone:
            return
        lines: list[str] = []
        run = os.path.basename(os.getcwd())
        for _, pid in self.tree.walk():
            command = command_of(pid)
            # Ours, and on its way out: its input ended with the command.
            if command and f"{run}/bridge.py" not in command:
                lines.append(f'{{"pid": {pid}, "command": {quote(command[:LEFTOVER_CHARS])}}}\n')
        if lines:
            attempt(write_plain, "leftovers", "".join(lines[:LEFTOVERS]).encode())
        if self.kills_leftovers:
            self.kill_at = now + LEFTOVER_SECONDS
            self.ask_to_end()

    def give_up(self, error: NotStartedError) -> None:
        """Record why nothing was started, and say it where people look."""
        if self.err >= 0:
            attempt(
                os.write, self.err, f"aiagent-coordinator: {error}\n".encode("utf-8", "replace")
            )
        if self.ticks:
            self.ticks.write(self.ticks.measure())
        attempt(os.unlink, "started.tmp")
        self.write_record(error.reason, str(error)[:ERROR_CHARS])

    def write_record(
        self,
        reason: str | None,
        error: str | None,
        status: int | None = None,
        usage: "resource.struct_rusage | None" = None,
    ) -> None:
        """Write the record in place, make it durable, give it its name. Each step may fail alone."""
        code = os.waitstatus_to_exitcode(status) if status is not None else None
        rss = usage.ru_maxrss if usage else 0
        members = {
            "v": 1,
            "exit_code": code if code is not None and code >= 0 else None,
            "signal": -code if code is not None and code < 0 else None,
            "started_at_ns": self.started_at,
            "ended_at_ns": time.time_ns(),
            "cpu_seconds": usage.ru_utime + usage.ru_stime if usage else 0.0,
            "max_rss_kib": rss // 1024 if sys.platform == "darwin" else rss,
        }
        texts = {"reason": reason, "error": error, "stop": self.stop}
        parts = [
            f'"{name}": {"null" if value is None else value}' for name, value in members.items()
        ]
        parts += [f'"{name}": {quote(text)}' for name, text in texts.items()]
        line = ("{" + ", ".join(parts) + "}").encode().ljust(RECORD_BYTES - 1) + b"\n"
        # What fails is made up for: the reader falls back to exit.tmp, then to `lost`.
        attempt(os.pwrite, self.record_file, line, 0)
        attempt(os.fsync, self.record_file)
        attempt(os.rename, "exit.tmp", "exit")


def fork() -> int:
    """Fork, with patience: the machine or the user may be out of processes for a moment."""
    for pause in FORK_PAUSES:
        try:
            return os.fork()
        except OSError:
            time.sleep(pause)
    try:
        return os.fork()
    except OSError as error:
        raise NotStartedError("spawn_failed", f"fork: {error.strerror}") from None


def attempt(step: "Callable[..., object]", *arguments: object) -> None:
    """Do it if the system lets us."""
    try:
        step(*arguments)
    except OSError:
        pass


def write_plain(name: str, content: bytes) -> None:
    """Write a whole new file of the run directory."""
    descriptor = os.open(name, os.O_WRONLY | os.O_TRUNC | CREATE, 0o600)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def own_oom_score() -> int:
    """By how much the kernel's choice is shifted for us."""
    try:
        with open("/proc/self/oom_score_adj", "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def reserve_record() -> int:
    """Take the room of the exit record."""
    descriptor = open_plain("exit.tmp", os.O_RDWR | os.O_CREAT)
    try:
        os.posix_fallocate(descriptor, 0, RECORD_BYTES)
    except (AttributeError, OSError):
        os.pwrite(descriptor, bytes(RECORD_BYTES), 0)
    return descriptor


def drain(descriptor: int) -> bytes:
    """Read what is there; nothing when somebody else took it."""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


def note(_number: int, _frame: object) -> None:
    """A handler: that there is one makes the signal write to the wakeup pipe."""


def listen_to_signals() -> int:
    """Turn TERM and CHLD into bytes to select on: a blocking wait would resume after its handler."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, note)
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return reader


def main() -> None:
    """Say who holds the lock, then look after the command."""
    lock = int(sys.argv[2])
    os.set_inheritable(lock, False)
    os.pwrite(lock, f"{{{identity(os.getpid())}}}\n".encode(), 0)
    os.chdir(sys.argv[1])
    set_title(TITLE, sys.argv[1])
    Shim().run()


if __name__ == "__main__":
    main()
