"""Everything of this package for one node, built from its settings."""

from dataclasses import dataclass

from replcache import constants
from replcache.clock import Clock
from replcache.config import ServerConfig
from replcache.errors import ConfigError
from replcache.observability.logs import setup_audit
from replcache.observability.metrics import Metrics
from replcache.server.security.auth_file import LimitSettings
from replcache.server.security.callers import Callers
from replcache.server.security.guard import Guard
from replcache.server.security.http_guard import HttpGuard
from replcache.server.security.limits import Limits
from replcache.server.security.policy_store import PolicyStore
from replcache.server.security.refusals import RefusalLog


@dataclass(frozen=True, slots=True)
class Security:
    """store: None: no authentication; otherwise its follow() has to run in the background."""

    guard: Guard
    http: HttpGuard
    store: PolicyStore | None


def build(config: ServerConfig, clock: Clock, metrics: Metrics) -> Security:
    """Raises ConfigError: the auth file has problems, or the audit file can't be opened."""
    store = None
    if config.auth_file is not None:
        store = PolicyStore(config.auth_file)
        store.load()
    try:
        setup_audit(config.audit_file)
    except OSError as err:
        raise ConfigError(f"audit_file = {config.audit_file}: {err.strerror}") from err
    general = LimitSettings(config.limit_ops_per_s, config.limit_bytes_per_s, config.limit_calls)
    # Users may have limits of their own in the auth file, today or after a reload.
    has_limits = store is not None or general != LimitSettings()
    callers = Callers(clock, store, Limits(general, clock, constants.SOURCES_MAX))
    refusals = RefusalLog(clock)
    guard = Guard(metrics, callers, refusals, authenticates=store is not None, has_limits=has_limits)
    return Security(guard, HttpGuard(config, callers, refusals), store)
