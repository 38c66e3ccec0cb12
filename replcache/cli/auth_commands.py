"""`replcache auth`: tokens in the auth file, and what the file allows. Works on the file, asks no node.

A token is shown once, on stdout, when it is made; the file holds its hash only. Nodes take a changed file up
within a second.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replcache.cli.connection import JsonOption, duration_option, reported_errors
from replcache.cli.exits import Exit
from replcache.cli.output import print_json, print_table, say
from replcache.errors import ConfigError, PermissionDenied

if TYPE_CHECKING:
    from replcache.server.security.auth_file import Policy, Token, User
    from replcache.server.security.rights import Rights

FileOption = Annotated[
    Path,
    typer.Option("--file", "-f", envvar="REPLCACHE_AUTH_FILE", help="The auth file (setting auth_file)."),
]


def register(app: typer.Typer) -> None:
    auth = typer.Typer(no_args_is_help=True, help="Tokens, users and roles of the auth file.")
    token = typer.Typer(no_args_is_help=True, help="Make, list and revoke tokens.")
    token.command()(create)
    token.command(name="list")(show)
    token.command()(revoke)
    auth.add_typer(token, name="token")
    auth.command()(check)
    app.add_typer(auth, name="auth", rich_help_panel="Operation")


def create(
    user: Annotated[str, typer.Argument(help="The user of the auth file who gets it.")],
    file: FileOption,
    ttl: Annotated[
        Any,
        duration_option("--ttl", help="How long it lives, such as 90d; without it until it is revoked."),
    ] = None,
    note: Annotated[str, typer.Option(help="For those who read the list: where it is used.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it, this once. Its hash goes into the auth file."""
    with reported_errors(as_json):
        from replcache.clock import calendar_now
        from replcache.server.security.auth_edit import create_token

        now = calendar_now()
        expires = None if ttl is None else _end(now, ttl)
        token_id, token = create_token(file, user, now, expires, note)
        if as_json:
            print_json({"id": token_id, "token": token, "user": user, "expires": _shown(expires)})
            return
        typer.echo(token)
        until = _shown(expires) if expires else "it is revoked"
        say(f"token {token_id} of {user}, good until {until}; it is not shown again")


def _end(now: datetime, seconds: float) -> datetime:
    try:
        return now + timedelta(seconds=seconds)
    except OverflowError as err:
        raise ConfigError(f"--ttl: {seconds:g} s is no time that a token lives") from err


def show(file: FileOption, as_json: JsonOption = False) -> None:
    """List the tokens: never their secrets, which nobody has."""
    with reported_errors(as_json):
        from replcache.clock import calendar_now
        from replcache.server.security.auth_file import load_policy

        now = calendar_now()
        tokens = load_policy(file).tokens.values()
        rows = [
            {
                "id": token.id,
                "user": token.user,
                "state": _state(token, now),
                "created": _shown(token.created),
                "expires": _shown(token.expires),
                "note": token.note,
            }
            for token in tokens
        ]
        if as_json:
            print_json(rows)
            return
        columns = ["id", "user", "state", "created", "expires", "note"]
        print_table(columns, [[row[column] for column in columns] for row in rows])


def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As `token list` shows it.")],
    file: FileOption,
    as_json: JsonOption = False,
) -> None:
    """Make a token worthless, within a second on every node that has the file."""
    with reported_errors(as_json):
        from replcache.clock import calendar_now
        from replcache.server.security.auth_edit import revoke_token

        # Whoever pastes the whole token means its id; the rest of it must not be in a message.
        token = revoke_token(file, token_id.partition(".")[0], calendar_now())
        if as_json:
            print_json({"id": token.id, "user": token.user, "state": "revoked"})
        else:
            say(f"token {token.id} of {token.user} is revoked")


def check(
    file: FileOption,
    user: Annotated[str, typer.Option("--user", help="Ask for the rights of this user.")] = "",
    read: Annotated[list[str] | None, typer.Option("--read", metavar="KEY", help="May he read it?")] = None,
    write: Annotated[
        list[str] | None, typer.Option("--write", metavar="KEY", help="May he write it?")
    ] = None,
    lock: Annotated[list[str] | None, typer.Option("--lock", metavar="NAME", help="May he lock it?")] = None,
    admin: Annotated[
        list[str] | None, typer.Option("--admin", metavar="CALL", help="May he make this call?")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the auth file, and show what it allows. Exit 2: problems; exit 1: the answer is no."""
    with reported_errors(as_json):
        from replcache.server.security.auth_file import load_policy

        policy = load_policy(file)
        if policy.orphans:
            say(f"tokens of users that are not there, worth nothing: {', '.join(policy.orphans)}")
        asked = {"read": read or [], "write": write or [], "lock": lock or [], "admin": admin or []}
        if not any(asked.values()):
            _print_users(policy, [_user(policy, user)] if user else list(policy.users.values()), as_json)
            return
        if not user:
            raise ConfigError("--read, --write, --lock and --admin need --user")
        rights = _user(policy, user).rights
        answers = [
            {"right": right, "to": what, "allowed": _is_allowed(rights, right, what)}
            for right, wanted in asked.items()
            for what in wanted
        ]
        if as_json:
            print_json(answers)
        else:
            columns = ["right", "to", "allowed"]
            print_table(columns, [[str(answer[column]) for column in columns] for answer in answers])
        if not all(answer["allowed"] for answer in answers):
            raise typer.Exit(int(Exit.NEGATIVE))


def _user(policy: "Policy", name: str) -> "User":
    if name not in policy.users:
        raise ConfigError(f"there is no user {name!r}; known: {', '.join(sorted(policy.users)) or 'none'}")
    return policy.users[name]


def _is_allowed(rights: "Rights", right: str, what: str) -> bool:
    try:
        if right == "read":
            rights.need_read(what.encode())
        elif right == "write":
            rights.need_write(what.encode())
        elif right == "lock":
            rights.need_lock(what)
        else:
            rights.need_admin(what)
    except PermissionDenied:
        return False
    return True


def _print_users(policy: "Policy", users: list["User"], as_json: bool) -> None:
    rows = []
    for user in users:
        rights = user.rights
        rows.append(
            {
                "user": user.name,
                "roles": list(user.roles),
                "read": [prefix.decode() for prefix in rights.read],
                "write": [prefix.decode() for prefix in rights.write],
                "locks": list(rights.locks),
                "admin": sorted(rights.admin),
                "tokens": sum(token.user == user.name for token in policy.tokens.values()),
                "certificates": sorted(n for n, owner in policy.certificates.items() if owner == user.name),
            }
        )
    if as_json:
        print_json(rows)
        return
    columns = ["user", "roles", "read", "write", "locks", "admin", "tokens", "certificates"]
    print_table(columns, [[_cell(column, row[column]) for column in columns] for row in rows])


def _cell(column: str, value: Any) -> object:
    """A prefix shows as `shop:*`: an empty one would look like none."""
    if not isinstance(value, list):
        return value
    star = "*" if column in ("read", "write", "locks") else ""
    return " ".join(f"{one}{star}" for one in value)


def _state(token: "Token", now: datetime) -> str:
    if token.revoked is not None:
        return "revoked"
    return "good" if token.is_good(now) else "over"


def _shown(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment is not None else ""
