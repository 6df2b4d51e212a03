"""Every error of the product: one tree, stable codes, one table of exit codes.

A class docstring is the default message: what happened, then what to do.
Expected failures of a run are data (`RunOutcome`, `RunReason`), not exceptions.
"""

from __future__ import annotations

from typing import ClassVar

#: Exit status of a command by error code; what is not here exits with 1.
EXIT_CODES: dict[str, int] = {
    "VALIDATION": 2,
    "CONFIG": 3,
    "UNAVAILABLE": 4,
    "PROTOCOL": 4,
    "NOT_FOUND": 5,
    "CONFLICT": 6,
    "STALE_RUN": 6,
    "CYCLE": 6,
    "TRANSITION": 6,
    "UNAUTHORIZED": 7,
    "FORBIDDEN": 7,
    "LIMIT": 8,
    "RATE_LIMITED": 8,
    "ALREADY_RUNNING": 9,
    "INTERRUPTED": 130,
}


class CoordinatorError(Exception):
    """Something failed that has no better name; the log has the details."""

    code: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str = "", *, hint: str = "", **details: object) -> None:
        """Build the error.

        Args:
            message: What happened, one line; the class docstring when empty.
            hint: What to do about it, one line.
            **details: Facts for machines (ids, keys, values); never secrets.
        """
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.hint = hint
        self.details = details

    @property
    def message(self) -> str:
        """The one line that says what happened."""
        return str(self.args[0])

    @property
    def exit_code(self) -> int:
        """The exit status a command ends with on this error."""
        return EXIT_CODES.get(self.code, 1)


class ValidationError(CoordinatorError):
    """A value is not acceptable; correct it and try again."""

    code = "VALIDATION"


class ConfigError(CoordinatorError):
    """The configuration cannot be used; correct the file and start again."""

    code = "CONFIG"


class ProviderError(CoordinatorError):
    """The provider definition cannot be used; see its file."""

    code = "CONFIG"


class NotFoundError(CoordinatorError):
    """There is no such thing; list what there is."""

    code = "NOT_FOUND"


class ConflictError(CoordinatorError):
    """Somebody changed this first; look again and retry."""

    code = "CONFLICT"


class CycleError(ConflictError):
    """The tasks would wait for each other in a circle."""

    code = "CYCLE"


class StaleRunError(ConflictError):
    """This run was taken over; what it reports no longer counts."""

    code = "STALE_RUN"


class TransitionError(CoordinatorError):
    """The task cannot go from its status to that one."""

    code = "TRANSITION"


class LimitError(CoordinatorError):
    """A limit is reached; wait, or raise it."""

    code = "LIMIT"


class WorkspaceError(CoordinatorError):
    """The workspace cannot be prepared; the message names what is in the way."""

    code = "WORKSPACE"


class GitError(WorkspaceError):
    """A git command failed; its output says why."""


class PathEscapeError(WorkspaceError):
    """A path leads out of its folder; it is refused."""

    code = "SECURITY"


class ExecutorError(CoordinatorError):
    """The executor could not run the command."""

    code = "SPAWN"


class SpawnError(ExecutorError):
    """The process could not be started."""


class ServerError(CoordinatorError):
    """The server did not do what was asked."""

    code = "UNAVAILABLE"


class UnavailableError(ServerError):
    """The server cannot be reached; is it running?"""


class UnauthorizedError(ServerError):
    """The server does not know who is calling; authenticate first."""

    code = "UNAUTHORIZED"


class ForbiddenError(ServerError):
    """The caller may not do this."""

    code = "FORBIDDEN"


class ProtocolError(ServerError):
    """The other side speaks something else."""

    code = "PROTOCOL"


class StoreError(CoordinatorError):
    """The store cannot be used."""

    code = "STORE"


class MigrationError(StoreError):
    """The database has another schema than this program; nothing was written."""

    code = "CONFIG"


class StopTimeoutError(ConflictError):
    """A process did not end in the time given; wait, or stop its agents too."""


class AlreadyRunningError(CoordinatorError):
    """Another process already holds this state directory."""

    code = "ALREADY_RUNNING"


class OvertakenError(AlreadyRunningError):
    """Another process took this state directory over; this one changes nothing any more."""


#: What a code that came over the wire is raised as on the other side.
BY_CODE: dict[str, type[CoordinatorError]] = {
    cls.code: cls
    for cls in (
        ValidationError,
        ConfigError,
        NotFoundError,
        ConflictError,
        CycleError,
        StaleRunError,
        TransitionError,
        LimitError,
        UnavailableError,
        UnauthorizedError,
        ForbiddenError,
        ProtocolError,
        AlreadyRunningError,
    )
}


def from_code(code: str, message: str, hint: str = "") -> CoordinatorError:
    """Rebuild the error that a server answered with.

    Unknown codes become a plain `ServerError`, whose message keeps the code.
    """
    cls = BY_CODE.get(code)
    if cls is None:
        return ServerError(f"{code}: {message}", hint=hint)
    return cls(message, hint=hint)
