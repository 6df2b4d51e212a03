"""The TCP socket: bound before anything is served, and refused in words when it is taken."""

from __future__ import annotations

import errno
import socket

import psutil

from aiagent_coordinator.errors import AlreadyRunningError, ConfigError
from aiagent_coordinator.server.http.settings import HttpSettings, with_port

#: Connections the kernel holds for us while the server is still starting.
BACKLOG = 1024


def bind_http(settings: HttpSettings) -> socket.socket:
    """Make the listening socket; port 0 takes any free one.

    Raises:
        AlreadyRunningError: somebody listens there; the message names who, where the system says.
        ConfigError: the address is none of ours, or the port needs rights we do not have.
    """
    place = with_port(settings.host, settings.port)
    hint = "set http.listen to another address or port"
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        # asyncio sends small answers at once only where the protocol is named
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise ConfigError(f"{place} cannot be used: {error.strerror}", hint=hint) from error
    try:
        # what a server before us left in TIME_WAIT is not in the way; a living one still is
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            message = f"{place} (http.listen) is taken{_holder(settings.port)}"
            raise AlreadyRunningError(message, hint=hint) from error
        message = f"{place} (http.listen) cannot be used: {error.strerror or error}"
        raise ConfigError(message, hint=hint) from error
    return listener


def _holder(port: int) -> str:
    """Who listens on a port, as far as the system tells us."""
    try:
        for found in psutil.net_connections(kind="tcp"):
            is_it = found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port
            if is_it and found.pid:
                return f" by process {found.pid} ({psutil.Process(found.pid).name()})"
    except psutil.Error:
        pass
    return ""
