"""The policy in force, followed as its file changes.

A file that has problems changes nothing: the last good policy stays, and the problems are logged once. A node
that locked everybody out because of a typing error would be worse than one that is a little behind.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from replcache import constants
from replcache.clock import calendar_now
from replcache.errors import ConfigError
from replcache.observability.logs import get_logger
from replcache.server.security.auth_file import Policy, load_policy

_log = get_logger(__name__)
_Stamp = tuple[int, int, int]
_READABLE_BY_OTHERS = 0o004


class PolicyStore:
    """Attributes:
    policy: what holds now.
    generation: goes up whenever somebody's rights may have changed, also when a token's time is over.
    """

    def __init__(self, path: Path, today: Callable[[], datetime] = calendar_now) -> None:
        self._path = path
        self.today = today
        self._stamp: _Stamp = (0, 0, 0)
        self._failed_stamp: _Stamp = (0, 0, 0)
        self._expiry: datetime | None = None
        self.policy = Policy({}, {}, {})
        self.generation = 0

    def load(self) -> None:
        """At the start. Raises ConfigError."""
        try:
            self._stamp = self._look()
        except OSError as err:
            raise ConfigError(f"auth file {self._path}: {err.strerror}") from err
        self._take(load_policy(self._path))

    async def refresh(self) -> None:
        """Looks at the file and the date once."""
        try:
            stamp = self._look()
            if stamp not in (self._stamp, self._failed_stamp):
                # Remembered before the attempt: a broken file is reported once, not every second.
                self._failed_stamp = stamp
                policy = await asyncio.to_thread(load_policy, self._path)
                self._stamp, self._failed_stamp = stamp, (0, 0, 0)
                self._take(policy)
        except OSError as err:
            if self._failed_stamp != (-1, 0, 0):
                self._failed_stamp = (-1, 0, 0)
                _log.error("auth_file_not_reloaded", error=f"{self._path}: {err.strerror}")
        except ConfigError as err:
            _log.error("auth_file_not_reloaded", error=str(err))
        if self._expiry is not None and self.today() >= self._expiry:
            self.generation += 1
            self._expiry = self.policy.next_expiry(self.today())

    async def follow(self) -> None:
        """The background task."""
        while True:
            await asyncio.sleep(constants.AUTH_RELOAD_INTERVAL_S)
            await self.refresh()

    def _look(self) -> _Stamp:
        stat = self._path.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _take(self, policy: Policy) -> None:
        self.policy = policy
        self.generation += 1
        self._expiry = policy.next_expiry(self.today())
        _log.info(
            "auth_file_loaded", users=len(policy.users), tokens=len(policy.tokens), generation=self.generation
        )
        if policy.orphans:
            _log.warning("auth_tokens_without_user", tokens=list(policy.orphans))
        if self._path.stat().st_mode & _READABLE_BY_OTHERS:
            _log.warning("auth_file_readable_by_others", file=str(self._path))
