"""Sends the log of a run to the web interface of a server of another make."""

from __future__ import annotations

import http.client
import json
import logging
import secrets
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from aiagent_coordinator.telemetry import log_event

if TYPE_CHECKING:
    from aiagent_coordinator.coordinator.foreign_terms import Upload

logger = logging.getLogger(__name__)

#: For connecting and for every read.
TIMEOUT_SECONDS = 30.0


def send(upload: Upload, token: str, path: Path, about: Mapping[str, str]) -> bool:
    """Send one file; tries as often as the settings say. Blocks. A failure is told and nothing more.

    Args:
        upload: Where, and how often.
        token: The coordinator's.
        path: The log.
        about: Fields that go with it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        return _failed(path, error.strerror or "it cannot be read")
    if len(content) > upload.max_file_bytes:
        return _failed(path, f"it is larger than {upload.max_file_bytes} bytes")
    boundary = secrets.token_hex(16)
    body = _multipart(boundary, {**about, "original_filename": path.name}, path.name, content)
    reason = ""
    for attempt in range(max(1, upload.retry_count)):
        if attempt:
            time.sleep(upload.retry_delay_seconds * attempt)
        try:
            reason = _post(upload.url, token, boundary, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = str(error)
        if not reason:
            return True
    return _failed(path, reason)


def _post(url: str, token: str, boundary: str, body: bytes) -> str:
    """Send once; empty when it was taken, else why not."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            host, port, timeout=TIMEOUT_SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    try:
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": f"multipart/form-data; boundary={boundary}",
        }
        where = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        connection.request("POST", where, body, headers)
        answer = connection.getresponse()
        text = answer.read(65536).decode("utf-8", "replace")
    finally:
        connection.close()
    if answer.status != http.client.OK:
        return f"HTTP {answer.status}: {text[:200]}"
    return "" if _is_success(text) else f"not taken: {text[:200]}"


def _is_success(text: str) -> bool:
    try:
        answer: object = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(answer, dict) and cast("Mapping[str, object]", answer).get("success") is True


def _multipart(boundary: str, fields: Mapping[str, str], name: str, content: bytes) -> bytes:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{_plain(value)}\r\n'
        for key, value in fields.items()
    ]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="log_file"; '
        f'filename="{_plain(name)}"\r\nContent-Type: text/plain\r\n\r\n'
    )
    return "".join(parts).encode() + head.encode() + content + f"\r\n--{boundary}--\r\n".encode()


def _plain(value: str) -> str:
    return "".join(letter for letter in value if letter.isprintable() and letter != '"')


def _failed(path: Path, reason: str) -> bool:
    log_event(
        logger,
        logging.WARNING,
        "report.refused",
        "a log was not sent",
        path=str(path),
        error=reason[:500],
    )
    return False
