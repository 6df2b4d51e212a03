"""Logins that were missing: their programs are asked, without a model, and their work goes on when there is one.

Only a program that said "nobody" before and says "somebody" now opens its account again. One that says so all
the time, while its provider refuses it, is left to a person.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread

from aiagent_coordinator.coordinator.link import Link
from aiagent_coordinator.errors import CoordinatorError, UnavailableError
from aiagent_coordinator.pipeline.run import RunRecord
from aiagent_coordinator.providers.catalog import Catalog
from aiagent_coordinator.providers.detect import resolve
from aiagent_coordinator.providers.environment import of_account
from aiagent_coordinator.providers.probing import Login, login_of, probe_env
from aiagent_coordinator.quota import DEFAULT_ACCOUNT
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: How a run ends whose program has no login that counts.
REASON = "auth"
#: Between two looks at first; a look is a start of the program.
LOOK_SECONDS = 5.0
#: Each pause is longer than the one before, up to this.
MAX_LOOK_SECONDS = 300.0
_LONGER = 1.5

#: Provider and account.
Key = tuple[str, str]


@dataclass
class Logins:
    """Which accounts wait for a login, as far as this life knows.

    Args:
        catalog: The definitions.
        environ: What runs are started with.
        accounts: Provider → account → variables of its program.
        link: To the server, which holds what is parked.
    """

    catalog: Catalog
    environ: Mapping[str, str]
    accounts: Mapping[str, Mapping[str, Mapping[str, str]]]
    link: Link
    #: Whether its program said that nobody is logged in.
    _waiting: dict[Key, bool] = field(default_factory=dict[Key, bool])
    _news: anyio.Event = field(default_factory=anyio.Event)

    def ended(self, record: RunRecord) -> None:
        """A run is over."""
        if record.reason != REASON:
            return
        account = str((record.lane or {}).get("account") or DEFAULT_ACCOUNT)
        self._waiting[record.provider, account] = False
        self._news.set()

    async def run(self) -> None:
        """Look until cancelled; nothing is done while nothing waits."""
        await self._begin()
        pause = LOOK_SECONDS
        while True:
            if not self._waiting:
                await self._news.wait()
            if self._news.is_set():
                self._news = anyio.Event()
                pause = LOOK_SECONDS
            for key in list(self._waiting):
                await self._look(key)
            with anyio.move_on_after(pause):
                await self._news.wait()
            pause = min(MAX_LOOK_SECONDS, pause * _LONGER)

    async def _begin(self) -> None:
        """Take up what waits since before this life; somebody may have logged in meanwhile."""
        while True:
            await self.link.wait_up()
            try:
                told = await self.link.call("list_limits", {})
            except UnavailableError:
                await anyio.sleep(LOOK_SECONDS)
                continue
            except CoordinatorError:
                return  # a server of before, which tells coordinators nothing of it
            for one in told.get("limits", ()):
                if one.get("state") == "parked" and one.get("reason") == REASON:
                    self._waiting[str(one["provider"]), str(one["account"])] = True
            return

    async def _look(self, key: Key) -> None:
        # whoever stops us need not wait for a program
        found = await anyio.to_thread.run_sync(self._known, key, abandon_on_cancel=True)
        if found is None:
            del self._waiting[key]
        elif found is Login.NEEDS_LOGIN:
            self._waiting[key] = True
        elif found is Login.LOGGED_IN and self._waiting[key]:
            await self._open(key)

    def _ask(self, key: Key) -> Login | None:
        """Ask a program; None: it cannot say."""
        provider, account = key
        if provider not in self.catalog:
            return None
        definition = self.catalog.get(provider)
        if not (definition.auth.status_args or definition.auth.files):
            return None
        accounts = self.accounts.get(provider, {})
        of_accounts = {name for variables in accounts.values() for name in variables} - {"HOME"}
        common = probe_env(self.environ, definition, self.catalog.chosen(provider))
        env = {name: value for name, value in common.items() if name not in of_accounts}
        env = of_account(env, accounts.get(account, {}))
        path = resolve(definition, env.get("PATH"), Path("/dev/null"), env.get("HOME"))
        return Login.UNKNOWN if path is None else login_of(definition, path, env)

    def _known(self, key: Key) -> Login | None:
        """The same; what cannot be asked now is not known, and ends nothing here."""
        try:
            return self._ask(key)
        except (CoordinatorError, OSError):
            return Login.UNKNOWN

    async def _open(self, key: Key) -> None:
        provider, account = key
        arguments = {"provider": provider, "account": account, "logins_only": True}
        # before: a run that is refused as soon as it is open waits anew
        del self._waiting[key]
        try:
            await self.link.call("clear_limits", arguments)
        except UnavailableError:
            self._waiting[key] = True  # with the next look
        except CoordinatorError:
            pass  # it is nothing to the server any more
        else:
            log_event(
                logger,
                logging.INFO,
                "loop.logged_in",
                "somebody logged in; what waited for that goes on",
                provider=provider,
                account=account,
            )
