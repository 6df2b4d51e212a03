"""Goes between a shim and its command: shuts the command into a sandbox, then becomes it.

Run as `python -I -S confine.py PLAN MARK -- COMMAND...` from a copy in the run directory. PLAN says
what the sandbox is: fields that end with NUL. `landlock`, what of the network is left, then pairs of
access and path: this process restricts itself and becomes the command. `through`, then the words of a
program that makes the sandbox: that program is started, and starts this file again inside.

MARK is empty until the sandbox stands, then says so in a line; what follows is why the command could
not be started in it. Standard library only; imports nothing of ours.
"""

import os
import signal
import sys

TYPE_CHECKING = False  # typing's own constant would cost its import
if TYPE_CHECKING:
    from typing import NoReturn

#: The first line of the mark of a sandbox that stands.
STANDS = b"confined\n"
#: Exit statuses of a sandbox that could not be made, and of a command that is not there in it.
NOT_MADE, NOT_FOUND = 126, 127
#: What is read of a plan at most: a few hundred paths are far less.
PLAN_BYTES = 4 * 1024 * 1024
# Numbers of <linux/prctl.h>, of the system calls (the same everywhere), and of <linux/landlock.h>.
PR_SET_NO_NEW_PRIVS, PR_DROP_FROM_BOUNDS = 38, 24
CAPABILITIES_3 = 0x20080522
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
ASK_VERSION = 1
PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
REFER, TRUNCATE, IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
#: Everything that the first version knows, but making devices.
ALL_1 = (1 << 13) - 1
MAKE_DEVICES = 1 << 6 | 1 << 11
#: What a rule about a plain file may name.
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEVICE
BIND_TCP, CONNECT_TCP = 1, 2
SCOPES = 1 | 2  # abstract sockets and signals
ACCESS = {
    "read": EXECUTE | READ_FILE | READ_DIR,
    "list": READ_DIR,
    "device": READ_FILE | WRITE_FILE | READ_DIR | IOCTL_DEVICE,
    "write": (ALL_1 & ~MAKE_DEVICES) | REFER | TRUNCATE | IOCTL_DEVICE,
}
#: Versions from which truncating, TCP, and abstract sockets with signals can be refused.
WITH_TRUNCATE, WITH_TCP, WITH_DEVICES, WITH_SCOPES = 3, 4, 5, 6


class NotMadeError(Exception):
    """The sandbox could not be made; the text says why."""


def environment() -> dict[bytes, bytes]:
    """The environment this process was given: Python adds LC_CTYPE to its own copy in the C locale."""
    try:
        with open("/proc/self/environ", "rb") as file:
            entries = [entry.partition(b"=") for entry in file.read().split(b"\0")]
    except OSError:
        return dict(os.environb)
    return {name: value for name, equals, value in entries if name and equals}


def read_plan(path: str) -> list[str]:
    """Read the fields of a plan.

    Raises:
        NotMadeError: there is none.
    """
    try:
        with open(path, "rb") as file:
            fields = file.read(PLAN_BYTES).split(b"\0")
    except OSError as error:
        raise NotMadeError(f"{path}: {error.strerror}") from None
    if len(fields) < 3 or fields.pop():
        raise NotMadeError(f"{path}: no whole plan")
    return [os.fsdecode(field) for field in fields]


def restrict(network: str, rules: list[str]) -> None:
    """Restrict this process and all that it will become or start.

    Raises:
        NotMadeError: the kernel cannot do all of it; nothing is restricted then.
    """
    import ctypes  # noqa: PLC0415 - the other kinds do without

    libc = ctypes.CDLL(None, use_errno=True)

    def call(number: int, *arguments: object) -> int:
        long = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
        return libc.syscall(ctypes.c_long(number), *long)

    def check(answer: int, what: str) -> int:
        if answer < 0:
            raise NotMadeError(f"{what}: {os.strerror(ctypes.get_errno())}")
        return answer

    version = check(call(CREATE_RULESET, None, 0, ASK_VERSION), "Landlock")
    needed = WITH_TCP if network == "none" else WITH_TRUNCATE
    if version < needed:
        raise NotMadeError(f"Landlock has version {version} here, {needed} is needed")
    files = ALL_1 | REFER | TRUNCATE | (IOCTL_DEVICE if version >= WITH_DEVICES else 0)
    nets = BIND_TCP | CONNECT_TCP if network == "none" else 0
    scopes = SCOPES if version >= WITH_SCOPES else 0
    # an older kernel knows fewer members, and takes more only when they are zero
    attributes = b"".join(number.to_bytes(8, sys.byteorder) for number in (files, nets, scopes))
    size = 24 if version >= WITH_SCOPES else 16 if version >= WITH_TCP else 8
    ruleset = check(call(CREATE_RULESET, attributes[:size], size, 0), "landlock_create_ruleset")
    for access, path in zip(rules[::2], rules[1::2], strict=True):
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # what is not there cannot be opened either
        allowed = ACCESS[access] & files
        if os.fstat(place).st_mode & 0o170000 != 0o040000:
            allowed &= OF_FILES
        rule = allowed.to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder)
        check(call(ADD_RULE, ruleset, PATH_BENEATH, rule, 0), f"landlock_add_rule {path}")
        os.close(place)
    no_more = [ctypes.c_ulong(number) for number in (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)]
    check(libc.prctl(*no_more), "prctl")
    check(call(RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)
    # Landlock leaves root its privileges, and some of them lead around it.
    capability = 0
    while libc.prctl(PR_DROP_FROM_BOUNDS, ctypes.c_ulong(capability), 0, 0, 0) == 0:
        capability += 1
    if os.geteuid() == 0 and capability == 0:
        raise NotMadeError("root's privileges cannot be dropped")
    header = CAPABILITIES_3.to_bytes(4, sys.byteorder) + bytes(4)
    check(libc.capset(header, bytes(24)), "capset")


def become(command: list[str], mark: int) -> "NoReturn":
    """Note that the sandbox stands, and become the command; note also if that fails."""
    given = environment()
    os.write(mark, STANDS)
    os.set_inheritable(mark, False)
    try:
        os.execve(command[0], command, given)  # noqa: S606 - that is its job
    except OSError as error:
        text = f"cannot start {command[0]}: {error.strerror}"
        os.write(mark, text.encode("utf-8", "replace"))
        fail(text, NOT_FOUND)


def fail(text: str, status: int) -> "NoReturn":
    """Say it where the command's errors go, and end."""
    os.write(2, f"aiagent-coordinator: sandbox: {text}\n".encode("utf-8", "replace"))
    os._exit(status)


def outside(plan: str, mark_file: str, command: list[str]) -> "NoReturn":
    """Make the sandbox, or start what makes it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        mark = os.open(mark_file, flags, 0o600)
        kind, *fields = read_plan(plan)
        if kind == "landlock":
            restrict(fields[0], fields[1:])
            become(command, mark)
        if kind != "through":
            raise NotMadeError(f"{plan}: written by another version")
        os.set_inheritable(mark, True)
        # The program that makes the sandbox stands between us and the command. A TERM to all would
        # end it first, and the command with it, before its grace is over. Inside, it is undone.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        again = [sys.executable, "-I", "-S", sys.argv[0], "--inside", str(mark), "--", *command]
        os.execve(fields[0], [*fields, *again], environment())  # noqa: S606 - that is its job
    except NotMadeError as error:
        fail(str(error), NOT_MADE)
    except (OSError, ImportError, ValueError, LookupError) as error:
        fail(repr(error), NOT_MADE)


def main(words: list[str]) -> None:
    """`PLAN MARK -- COMMAND`, or inside `--inside FD -- COMMAND`."""
    first, second, _, *command = words
    if first != "--inside":
        outside(first, second, command)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    become(command, int(second))


if __name__ == "__main__":
    main(sys.argv[1:])
