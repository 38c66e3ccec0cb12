"""Who is calling: from a token or a certificate to a Caller with rights and limits.

A Caller is made once for each token (or certificate name, or address without authentication) and shared by
all its connections; it is looked up again only when the policy's generation has changed, so that a call costs
a hash of its token and two comparisons.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from replcache import constants
from replcache.clock import Clock
from replcache.errors import RateLimited, ReplcacheError, Unauthenticated
from replcache.server.security.auth_file import LimitSettings, Policy, User
from replcache.server.security.limits import ClientLimits, Limits
from replcache.server.security.policy_store import PolicyStore
from replcache.server.security.refusals import FailureBrake
from replcache.server.security.rights import NOTHING, Rights
from replcache.server.security.tokens import TokenMemory, is_secret, split_token

HEADER = "authorization"
_NO_OWN_LIMITS = LimitSettings(None, None, None)


class Caller:
    """One identity.

    Attributes:
        name: the user; "" without authentication.
        by: `token <id>`, `certificate <name>` or `address <host>`.
    """

    __slots__ = ("_certificate", "_hash", "_token_id", "by", "generation", "limits", "name", "rights")

    def __init__(self, by: str, limits: ClientLimits) -> None:
        self.by = by
        self.name = ""
        self.rights: Rights = NOTHING
        self.limits = limits
        self.generation = 0
        self._token_id = self._hash = self._certificate = ""

    @classmethod
    def of_token(cls, token_id: str, stored: str, limits: ClientLimits) -> "Caller":
        caller = cls(f"token {token_id}", limits)
        caller._token_id, caller._hash = token_id, stored
        return caller

    @classmethod
    def of_certificate(cls, name: str, limits: ClientLimits) -> "Caller":
        caller = cls(f"certificate {name}", limits)
        caller._certificate = name
        return caller

    def find_user(self, policy: Policy, store: PolicyStore) -> User:
        """The user by the policy as it is now. Raises Unauthenticated."""
        if self._token_id:
            token = policy.tokens.get(self._token_id)
            if token is None or token.hash != self._hash or not token.is_good(store.today()):
                raise Unauthenticated("the token is unknown, revoked or over")
            return policy.users[token.user]
        name = policy.certificates.get(self._certificate)
        if name is None:
            raise Unauthenticated("no user has this certificate's name")
        return policy.users[name]


class Callers:
    """All identities of a node."""

    def __init__(self, clock: Clock, store: PolicyStore | None, limits: Limits) -> None:
        """store: None: everybody may do everything, and limits go by address."""
        self._store = store
        self._limits = limits
        self._brake = FailureBrake(clock)
        self._memory: TokenMemory[Caller] = TokenMemory(
            clock, constants.AUTH_REMEMBERED_MAX, constants.AUTH_GOOD_S, constants.AUTH_WRONG_S
        )
        self._by_certificate: dict[str, Caller] = {}
        self._seen_generation = 0
        # One at a time: argon2 takes memory and a core, and callers with the same token need it once.
        self._verifying = asyncio.Lock()

    @property
    def generation(self) -> int:
        """Of the policy; 0 without one."""
        return 0 if self._store is None else self._store.generation

    def current(self, caller: Caller) -> Caller:
        """The caller with the rights of now. Raises Unauthenticated when there is no such user any more."""
        store = self._store
        if store is not None and caller.generation != store.generation:
            user = caller.find_user(store.policy, store)
            caller.name, caller.rights = user.name, user.rights
            caller.limits = self._limits.of(f"user {user.name}", user.limits)
            caller.generation = store.generation
        return caller

    async def of_call(self, context: Any) -> Caller:
        """The caller of a gRPC call, or of one that came through a gateway.

        Raises:
            Unauthenticated: no token and no certificate, or one that does not count.
            RateLimited: this source has presented too many wrong tokens.
        """
        if self._store is None:
            host = source_of(context)
            return Caller(f"address {host}", self._limits.of(f"address {host}", _NO_OWN_LIMITS))
        found = [value for key, value in context.invocation_metadata() or () if key == HEADER]
        if len(found) == 1:
            return await self.of_header(found[0], source_of(context))
        if found:
            raise Unauthenticated("more than one authorization header")
        return self._of_certificate(certificate_names(context.auth_context()))

    async def of_header(self, authorization: str | bytes, source: str) -> Caller:
        """The caller who has the token; as of_call."""
        assert self._store is not None
        if isinstance(authorization, bytes) or not authorization.isascii():
            raise Unauthenticated("the authorization header is not `Bearer <id>.<secret>`")
        digest = self._memory.digest(authorization)
        caller = self._memory.find(digest)
        if caller is None:
            caller = await self._verified(authorization, digest, source)
        try:
            return self.current(caller)
        except ReplcacheError:
            self._memory.forget(digest)
            raise

    async def _verified(self, authorization: str, digest: bytes, source: str) -> Caller:
        store = self._store
        assert store is not None
        if store.generation != self._seen_generation:
            self._seen_generation = store.generation
            self._memory.forget_wrong()
        parts = split_token(authorization)
        if parts is None:
            raise Unauthenticated("the authorization header is not `Bearer <id>.<secret>`")
        self._hold_back(source)
        token = store.policy.tokens.get(parts[0])
        if token is None or not token.is_good(store.today()) or self._memory.is_wrong(digest):
            # A token that was revoked is no attack: whoever has it is told so, not held back.
            if token is None or self._memory.is_wrong(digest):
                self._brake.note(source)
            raise Unauthenticated("the token is unknown, revoked or over")
        async with self._verifying:
            # Somebody else may have come with the same token while we waited.
            caller = self._memory.find(digest)
            if caller is not None:
                return caller
            self._hold_back(source)
            if not self._memory.is_wrong(digest) and await asyncio.to_thread(is_secret, parts[1], token.hash):
                limits = self._limits.of(f"user {token.user}", store.policy.users[token.user].limits)
                caller = Caller.of_token(token.id, token.hash, limits)
                self._memory.remember(digest, caller)
                return caller
            self._memory.remember_wrong(digest)
        self._brake.note(source)
        raise Unauthenticated("the token is unknown, revoked or over")

    def _hold_back(self, source: str) -> None:
        wait_s = self._brake.wait_s(source)
        if wait_s > 0:
            raise RateLimited("too many wrong tokens from this address", retry_after_s=wait_s)

    def _of_certificate(self, names: Iterable[str]) -> Caller:
        assert self._store is not None
        certificates = self._store.policy.certificates
        known = sorted(name for name in names if name in certificates)
        if not known:
            raise Unauthenticated("a token, or a certificate with the name of a user, is needed")
        users = {certificates[name] for name in known}
        if len(users) > 1:
            raise Unauthenticated("the certificate has the names of several users")
        name = known[0]
        caller = self._by_certificate.get(name)
        if caller is None:
            # Bounded by the names in the file; those that are gone are found out by current().
            limits = self._limits.of(f"user {certificates[name]}", _NO_OWN_LIMITS)
            caller = self._by_certificate[name] = Caller.of_certificate(name, limits)
        return self.current(caller)


def certificate_names(auth_context: Any) -> set[str]:
    """Common name and DNS names of a certificate that gRPC has verified; empty without one."""
    found = (*auth_context.get("x509_common_name", ()), *auth_context.get("peer_dns", ()))
    return {name.decode("utf-8", "replace") for name in found}


def source_of(context: Any) -> str:
    """The host that a call comes from, without its port: `ipv4:10.0.0.7`."""
    peer: str = context.peer()
    return peer.rpartition(":")[0] if peer.startswith("ip") else peer
