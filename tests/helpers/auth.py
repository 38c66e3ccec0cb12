"""Auth files for tests: users, roles, tokens that are known, and channels that carry them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc

from replcache.client.channel import Authorized
from replcache.server.security.auth_edit import create_token

# `any` may everything, `shop` its own keys, `reader` reads what shop writes.
AUTH = """
[roles.everything]
read = [""]
write = [""]
locks = [""]
leases = true
admin = ["*"]

[roles.shop]
read = ["shop:"]
write = ["shop:"]
locks = ["shop/"]

[roles.reading]
read = ["shop:"]

[users.any]
roles = ["everything"]

[users.shop]
roles = ["shop"]
certificates = ["shop"]

[users.reader]
roles = ["reading"]

[users.nobody]
roles = []
"""


class AuthFile:
    """An auth file with one token for each user, made with the product's own editor."""

    def __init__(self, folder: Path, text: str = AUTH) -> None:
        self.path = folder / "auth.toml"
        self.write(text)
        self.tokens: dict[str, str] = {}

    def write(self, text: str) -> None:
        self.path.write_text(text)
        self.path.chmod(0o600)

    def token(self, user: str, expires: datetime | None = None) -> str:
        """A token of the user; the same one each time when it does not expire."""
        if expires is None and user in self.tokens:
            return self.tokens[user]
        _, token = create_token(self.path, user, datetime.now(UTC), expires, "")
        if expires is None:
            self.tokens[user] = token
        return token

    def change(self, old: str, new: str) -> None:
        """Replaces text of the file; the tokens stay."""
        text = self.path.read_text()
        assert old in text
        self.write(text.replace(old, new))


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def with_token(channel: grpc.aio.Channel, token: str) -> Any:
    """For stubs: every call carries the token."""
    return Authorized(channel, bearer(token))
