"""`replcache lock | locks`: run a command under a lock, and see who holds what."""

import os
import signal
import subprocess
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replcache.cli.connection import Connection, connected, duration_option
from replcache.cli.exits import Exit
from replcache.cli.output import print_json, print_table, printable, say, text_or_base64
from replcache.cli.units import short_duration
from replcache.errors import ConfigError

if TYPE_CHECKING:
    from replcache.client.types import LockClaim

PANEL = "Locks"
TOKEN_VARIABLE = "REPLCACHE_FENCE_TOKEN"
NAME_VARIABLE = "REPLCACHE_LOCK_NAME"
# How often the command and the lock are looked at: short beside any useful ttl.
WATCH_INTERVAL_S = 0.05


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(connected(lock))
    app.command(rich_help_panel=PANEL)(connected(locks))


def lock(
    connection: Connection,
    name: Annotated[str, typer.Argument(help="Name of the lock.")],
    command: Annotated[
        list[str] | None, typer.Argument(metavar="-- COMMAND...", help="What to run while it is held.")
    ] = None,
    ttl: Annotated[
        Any, duration_option("--ttl", help="Freed this long after the last renewal (it is renewed).")
    ] = "10s",
    wait: Annotated[Any, duration_option("--wait", help="How long to wait for it; 0: not at all.")] = "0",
    grace: Annotated[
        Any, duration_option("--grace", help="Time between TERM and KILL when the lock is lost.")
    ] = "5s",
    note: Annotated[str, typer.Option("--note", help="Shown by `replcache locks`.")] = "",
) -> None:
    """Run a command while holding a lock: replcache lock NAME -- COMMAND...

    The command finds the fencing token in REPLCACHE_FENCE_TOKEN and passes it on with its writes
    (`replcache set --fence NAME:TOKEN`). When the lock is lost, the command is stopped and the exit code is
    8; when the lock is not granted, nothing runs and it is 1; else it is the command's own (128 + the
    signal's number when a signal ended it).
    """
    if not command:
        raise ConfigError("nothing to run: replcache lock NAME -- COMMAND...")
    with connection.client() as client:
        held = client.lock(name, ttl=ttl, wait=wait, note=note)
        with held:
            code = run_while_held(held, name, command, grace)
    raise typer.Exit(code)


def locks(
    connection: Connection,
    name: Annotated[str, typer.Argument(help="One lock; without: all of them.")] = "",
) -> None:
    """Print who holds which lock, and who waits, in the order in which they will be served."""
    with connection.client() as client:
        found = client.locks(name)
    if connection.as_json:
        print_json(
            [
                {
                    "name": view.name,
                    "permits": view.permits,
                    "holders": [_claim_fields(claim) for claim in view.holders],
                    "waiters": [_claim_fields(claim) for claim in view.waiters],
                }
                for view in found
            ]
        )
        return
    rows = []
    for view in found:
        rows += [(view.name, "holds", *_claim_row(claim)) for claim in view.holders]
        rows += [(view.name, f"waits, {n}.", *_claim_row(c)) for n, c in enumerate(view.waiters, 1)]
    print_table(["lock", "state", "token", "owner", "expires in", "note"], rows)


def run_while_held(held: Any, name: str, command: list[str], grace_s: float) -> int:
    """Runs the command and watches the lock; the exit code for the shell."""
    environment = {**os.environ, TOKEN_VARIABLE: str(held.token), NAME_VARIABLE: name}
    try:
        process = subprocess.Popen(command, env=environment)
    except OSError as error:
        raise ConfigError(f"{command[0]}: {error.strerror}") from error

    def forward(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    # Ctrl-C reaches the command by itself (same terminal); TERM and HUP come to this process only.
    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        while True:
            try:
                code = process.wait(timeout=WATCH_INTERVAL_S)
                return code if code >= 0 else 128 - code
            except subprocess.TimeoutExpired:
                if held.lost.is_set():
                    say(
                        f"error: lock {name!r} (token {held.token}) is lost; stopping the command [LOCK_LOST]"
                    )
                    _stop(process, grace_s)
                    raise typer.Exit(int(Exit.LOCK_LOST)) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(process: subprocess.Popen[bytes], grace_s: float) -> None:
    process.terminate()
    try:
        process.wait(timeout=grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _claim_fields(claim: "LockClaim") -> dict[str, object]:
    owner, encoding = text_or_base64(claim.owner)
    return {
        "owner": owner,
        **({"owner_encoding": encoding} if encoding != "utf-8" else {}),
        "token": claim.token,
        "expires_in_s": claim.expires_in_s,
        "mode": "shared" if claim.shared else "exclusive",
        "note": claim.note,
    }


def _claim_row(claim: "LockClaim") -> tuple[object, ...]:
    owner = printable(claim.owner) if claim.owner.isascii() else claim.owner.hex()
    expires = short_duration(claim.expires_in_s) if claim.token else ""
    return (claim.token or "", owner, expires, claim.note)
