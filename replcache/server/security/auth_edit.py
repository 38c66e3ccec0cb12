"""Changes to the auth file by the command line: tokens are added, and marked as revoked.

The file is edited as text, so that comments and order stay, checked as a whole, and replaced at once with
rights 0600. Two edits at a time exclude each other by a lock on the file's directory entry.
"""

import base64
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from replcache.errors import ConfigError
from replcache.server.security.auth_file import Policy, Token, parse_policy
from replcache.server.security.tokens import hash_secret

# 256 bits: nobody guesses it, so the hash may be cheap.
SECRET_BYTES = 32


def new_secret() -> str:
    return secrets.token_urlsafe(SECRET_BYTES)


def new_id() -> str:
    """12 characters that are easy to read out."""
    return base64.b32encode(os.urandom(8))[:12].decode().lower()


def create_token(
    path: Path, user: str, now: datetime, expires: datetime | None, note: str
) -> tuple[str, str]:
    """Adds a token to the file.

    Returns:
        (id, whole token). The token is nowhere else: who loses it makes another one.
    Raises:
        ConfigError: no such user, or the file has problems.
    """
    token_id, secret = new_id(), new_secret()
    lines = [
        "[[tokens]]",
        f'id = "{token_id}"',
        f"user = {_quoted(user)}",
        f'hash = "{hash_secret(secret)}"',
        f"created = {_toml_time(now)}",
    ]
    if expires is not None:
        lines.append(f"expires = {_toml_time(expires)}")
    if note:
        lines.append(f"note = {_quoted(note)}")

    def add(text: str, policy: Policy) -> str:
        if user not in policy.users:
            known = ", ".join(sorted(policy.users)) or "none"
            raise ConfigError(f"auth file {path}: there is no user {user!r}; known: {known}")
        return text.rstrip("\n") + "\n\n" + "\n".join(lines) + "\n"

    _edit(path, add)
    return token_id, f"{token_id}.{secret}"


def revoke_token(path: Path, token_id: str, now: datetime) -> Token:
    """Marks the token; it stays in the file, so that nobody wonders who it was.

    Raises:
        ConfigError: no such token, it is revoked already, or the file has problems.
    """
    revoked: list[Token] = []

    def mark(text: str, policy: Policy) -> str:
        token = policy.tokens.get(token_id)
        if token is None:
            raise ConfigError(f"auth file {path}: there is no token {token_id!r}")
        if token.revoked is not None:
            raise ConfigError(f"token {token_id} was revoked at {_toml_time(token.revoked)} already")
        revoked.append(token)
        lines = text.splitlines(keepends=True)
        lines.insert(token.line, f"revoked = {_toml_time(now)}\n")
        return "".join(lines)

    _edit(path, mark)
    return revoked[0]


def _edit(path: Path, change: Callable[[str, Policy], str]) -> None:
    with _locked(path):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as err:
            raise ConfigError(f"auth file {path} can't be read: {err}") from err
        changed = change(text, parse_policy(text, str(path)))
        # Nothing is written that the nodes would refuse.
        parse_policy(changed, str(path))
        _replace(path, changed)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as err:
        raise ConfigError(f"auth file {path}: {err.strerror}") from err
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _replace(path: Path, text: str) -> None:
    """Nodes that look meanwhile see the old file or the new one."""
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
            if os.geteuid() == 0:
                owner = target.stat()
                os.fchown(output.fileno(), owner.st_uid, owner.st_gid)
            output.write(text)
            output.flush()
            os.fsync(output.fileno())
        temporary.replace(target)
    except OSError as err:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"auth file {path} can't be written: {err.strerror}") from err


def _toml_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _quoted(text: str) -> str:
    if not text.isprintable():
        raise ConfigError(f"{text!r}: only printable characters")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
