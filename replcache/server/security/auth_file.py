"""The file of users, roles and tokens: TOML text -> Policy. Pure but for reading the file.

    [roles.shop]
    read = ["item:", "shop:"]        # key prefixes; "" is every key
    write = ["shop:"]
    locks = ["shop/"]                # names of locks and elections, by prefix
    read_tags = ["shop-"]            # Find and Watch by tag, whatever the keys
    write_tags = ["shop-"]           # InvalidateTags
    leases = true
    admin = ["Cluster.AddMember"]    # "Cluster.*", "*"

    [users.checkout]
    roles = ["shop"]
    certificates = ["checkout"]      # names in client certificates (mutual TLS)
    ops_per_s = 5000                 # instead of the settings of all clients; so are bytes_per_s and calls

    [[tokens]]                       # made by `replcache auth token create`
    id = "..."
    user = "checkout"
    hash = "$argon2id$..."
    expires = 2027-01-01T00:00:00Z   # may be absent

All problems are reported at once, each with its line. Nothing that a line of this file holds but names is
ever part of a message: a hash in the wrong field must not reach a log.
"""

import fnmatch
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from replcache import constants
from replcache.errors import ConfigError
from replcache.server.security.rights import Rights, union
from replcache.server.security.rules import ADMIN_CALLS

_NAME_FORM = r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$"
TOKEN_ID_FORM = r"^[a-z2-7]{12}$"
HASH_FORM = r"^\$argon2id\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+$"
_Place: TypeAlias = tuple[str | int, ...]


def _short(text: str) -> str:
    if len(text.encode()) > constants.KEY_BYTES_MAX:
        raise ValueError(f"longer than {constants.KEY_BYTES_MAX} bytes")
    return text


def _admin(pattern: str) -> str:
    if not fnmatch.filter(ADMIN_CALLS, pattern):
        raise ValueError(f"names no administrative call; there are {', '.join(sorted(ADMIN_CALLS))}")
    return pattern


_Name = Annotated[str, StringConstraints(pattern=_NAME_FORM)]
_Prefix = Annotated[str, AfterValidator(_short)]
_AdminCall = Annotated[str, AfterValidator(_admin)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Role(_Table):
    read: list[_Prefix] = []
    write: list[_Prefix] = []
    locks: list[_Prefix] = []
    read_tags: list[_Prefix] = []
    write_tags: list[_Prefix] = []
    leases: bool = False
    admin: list[_AdminCall] = []

    def rights(self) -> Rights:
        return Rights(
            tuple(prefix.encode() for prefix in self.read),
            tuple(prefix.encode() for prefix in self.write),
            tuple(self.locks),
            tuple(self.read_tags),
            tuple(self.write_tags),
            self.leases,
            frozenset(call for pattern in self.admin for call in fnmatch.filter(ADMIN_CALLS, pattern)),
        )


class _User(_Table):
    roles: list[str] = []
    certificates: list[Annotated[str, StringConstraints(min_length=1, max_length=253)]] = []
    ops_per_s: float | None = Field(None, ge=0, le=1e12)
    bytes_per_s: float | None = Field(None, ge=0, le=1e15)
    calls: int | None = Field(None, ge=0)


class _Token(_Table):
    id: Annotated[str, StringConstraints(pattern=TOKEN_ID_FORM)]
    user: str
    hash: Annotated[str, StringConstraints(pattern=HASH_FORM, max_length=512)]
    created: datetime | None = None
    expires: datetime | None = None
    revoked: datetime | None = None
    note: str = ""


class _File(_Table):
    roles: dict[_Name, _Role] = {}
    users: dict[_Name, _User] = {}
    tokens: list[_Token] = []


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Of one client identity; 0: no limit. None, in a user's own: as for everybody."""

    ops_per_s: float | None = 0.0
    bytes_per_s: float | None = 0.0
    calls: int | None = 0

    def over(self, general: Self) -> "LimitSettings":
        """These where they are given, else the general ones."""
        return LimitSettings(
            general.ops_per_s if self.ops_per_s is None else self.ops_per_s,
            general.bytes_per_s if self.bytes_per_s is None else self.bytes_per_s,
            general.calls if self.calls is None else self.calls,
        )


@dataclass(frozen=True, slots=True)
class User:
    name: str
    rights: Rights
    roles: tuple[str, ...] = ()
    limits: LimitSettings = LimitSettings(None, None, None)


@dataclass(frozen=True, slots=True)
class Token:
    """What the file knows of a token; never its secret. Times are UTC."""

    id: str
    user: str
    hash: str = field(repr=False)
    created: datetime | None
    expires: datetime | None
    revoked: datetime | None
    note: str
    line: int

    def is_good(self, now: datetime) -> bool:
        return self.revoked is None and (self.expires is None or now < self.expires)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the file says.

    Attributes:
        tokens: those whose user exists.
        certificates: name in a certificate -> user's name.
        orphans: ids of the tokens of users that are not there. No error: who takes a user out of the file
            must not have it refused, and the user stay, because of tokens that were forgotten.
    """

    users: Mapping[str, User]
    tokens: Mapping[str, Token]
    certificates: Mapping[str, str]
    orphans: tuple[str, ...] = ()

    def next_expiry(self, now: datetime) -> datetime | None:
        """When the next token that is good now ends."""
        ends = [token.expires for token in self.tokens.values() if token.expires and token.is_good(now)]
        return min(ends, default=None)


def load_policy(path: Path) -> Policy:
    """Reads and checks the file.

    Raises:
        ConfigError: it can't be read, or its problems, each with line and field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        raise ConfigError(f"auth file {path}: {err.strerror}") from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"auth file {path}: is not UTF-8 text (byte {err.start})") from err
    return parse_policy(text, str(path))


def parse_policy(text: str, name: str) -> Policy:
    """As load_policy, for a text; `name` is the file's in messages."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise ConfigError(f"auth file {name}: {_without_content(err)}") from None
    except RecursionError as err:
        raise ConfigError(f"auth file {name}: values are nested too deeply") from err
    lines = find_lines(text)
    try:
        parsed = _File.model_validate(data)
    except ValidationError as err:
        details = err.errors(include_url=False)
        found = [(_line(lines, one["loc"]), one["loc"], _problem(one)) for one in details]
        raise _error(name, found) from None
    problems = list(_mismatches(parsed))
    if problems:
        raise _error(name, [(_line(lines, place), place, what) for place, what in problems])
    return _policy(parsed, lines)


def _without_content(err: tomllib.TOMLDecodeError) -> str:
    """The position and kind of a syntax error, but not the text that stands there."""
    where = re.search(r"\(at [^)]*\)", str(err))
    kind = re.split(r"['\"(]", str(err))[0].strip()
    return f"{kind} {where.group() if where else ''}".strip()


def _error(name: str, problems: list[tuple[int, _Place, str]]) -> ConfigError:
    listed = "\n".join(
        f"  - line {line}, {'.'.join(str(part) for part in place) or 'file'}: {what}"
        for line, place, what in sorted(problems, key=lambda problem: problem[0])
    )
    return ConfigError(f"auth file {name} has problems:\n{listed}")


def _problem(detail: Any) -> str:
    if detail["type"] == "extra_forbidden":
        return "there is no such setting"
    if detail["type"] == "string_pattern_mismatch" and detail["loc"][-1] in ("hash", "id"):
        return "is not as `replcache auth token create` writes it"
    message: str = detail["msg"]
    return message.removeprefix("Value error, ")


def _mismatches(file: _File) -> Iterator[tuple[_Place, str]]:
    """What each table alone can't tell."""
    owners: dict[str, str] = {}
    for name, user in file.users.items():
        for index, role in enumerate(user.roles):
            if role not in file.roles:
                yield ("users", name, "roles", index), f"there is no role {role!r}"
        for index, certificate in enumerate(user.certificates):
            owner = owners.setdefault(certificate, name)
            if owner != name:
                yield ("users", name, "certificates", index), f"{certificate!r} belongs to {owner!r} already"
    seen: set[str] = set()
    for index, token in enumerate(file.tokens):
        if token.id in seen:
            yield ("tokens", index, "id"), "appears twice"
        seen.add(token.id)


def _policy(file: _File, lines: Mapping[_Place, int]) -> Policy:
    roles = {name: role.rights() for name, role in file.roles.items()}
    users = {
        name: User(
            name,
            union(roles[role] for role in user.roles),
            tuple(user.roles),
            LimitSettings(user.ops_per_s, user.bytes_per_s, user.calls),
        )
        for name, user in file.users.items()
    }
    tokens = {
        token.id: Token(
            token.id,
            token.user,
            token.hash,
            _utc(token.created),
            _utc(token.expires),
            _utc(token.revoked),
            token.note,
            _line(lines, ("tokens", index)),
        )
        for index, token in enumerate(file.tokens)
        if token.user in users
    }
    orphans = tuple(token.id for token in file.tokens if token.user not in users)
    certificates = {name: user for user, one in file.users.items() for name in one.certificates}
    return Policy(users, tokens, certificates, orphans)


def _utc(moment: datetime | None) -> datetime | None:
    """TOML knows times without a zone; they are taken for UTC."""
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


# --- lines ---

_TABLE = re.compile(r"\s*(\[\[?)([^\[\]]+)\]\]?\s*(#.*)?$")
_WORD = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_KEY = re.compile(rf"\s*({_WORD}(?:\s*\.\s*{_WORD})*)\s*=")
_PART = re.compile(_WORD)


def find_lines(text: str) -> dict[_Place, int]:
    """Where tables and keys stand, from 1; tomllib does not tell. What spans lines has its first one."""
    found: dict[_Place, int] = {}
    counts: dict[_Place, int] = {}
    table: _Place = ()
    for number, line in enumerate(text.splitlines(), 1):
        if match := _TABLE.match(line):
            table = _parts(match[2])
            if match[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            found.setdefault(table, number)
        elif match := _KEY.match(line):
            found.setdefault((*table, *_parts(match[1])), number)
    return found


def _parts(text: str) -> _Place:
    return tuple(match[0].strip("\"'") for match in _PART.finditer(text))


def _line(lines: Mapping[_Place, int], place: _Place) -> int:
    """The line of the place, or of the nearest thing around it that has one."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 1)
