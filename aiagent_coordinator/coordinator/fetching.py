"""Fetches the archives of skills that a claim named."""

from __future__ import annotations

import base64
import binascii

import anyio

from aiagent_coordinator.coordinator.link import Link
from aiagent_coordinator.errors import ProtocolError, UnavailableError

AGAIN_SECONDS = 0.5


class SkillFetch:
    """Asks the server of this coordinator."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def fetch(self, sha256: str) -> bytes:
        """Give the archive with this digest; waits while the server is away.

        Raises:
            CoordinatorError: the server has none, or refuses.
        """
        while True:
            await self._link.wait_up()
            try:
                answer = await self._link.call("fetch_skill", {"sha256": sha256})
            except UnavailableError:
                # the line went down in mid-call, or its store is away: asking again changes nothing
                await anyio.sleep(AGAIN_SECONDS)
                continue
            try:
                return base64.b64decode(str(answer.get("archive_base64")), validate=True)
            except (binascii.Error, ValueError) as error:
                raise ProtocolError(f"its archive is no base64: {error}") from None
