"""`replcache namespace | guard | statistics`: settings of parts of the key space, and figures about them."""

from typing import Annotated

import typer

from replcache.cli.connection import Connection, connected
from replcache.cli.exits import Exit
from replcache.cli.output import bytes_fields, print_json, print_table, printable, say
from replcache.cli.units import bytes_of_size
from replcache.client.types import EvictionPolicy

PANEL = "Operation"


def register(parent: typer.Typer) -> None:
    namespace = typer.Typer(no_args_is_help=True, help="Named prefixes with a quota and an eviction policy.")
    namespace.command(name="set")(connected(set_namespace))
    namespace.command(name="remove")(connected(remove_namespace))
    namespace.command(name="list")(connected(list_namespaces))
    parent.add_typer(namespace, name="namespace", rich_help_panel=PANEL)
    guard = typer.Typer(no_args_is_help=True, help="Prefixes below which every write needs a lock's fence.")
    guard.command(name="add")(connected(add_guard))
    guard.command(name="remove")(connected(remove_guard))
    guard.command(name="list")(connected(list_guards))
    parent.add_typer(guard, name="guard", rich_help_panel=PANEL)
    parent.command(rich_help_panel=PANEL)(connected(statistics))


def set_namespace(
    connection: Connection,
    name: Annotated[str, typer.Argument(help="1 to 64 bytes.")],
    prefix: Annotated[str, typer.Argument(help='Of its keys; "": the quota of everything.')],
    max_bytes: Annotated[
        str,
        typer.Option("--max-bytes", metavar="SIZE", help="Of keys and values, such as 64MiB; 0: no quota."),
    ] = "0",
    policy: Annotated[
        EvictionPolicy,
        typer.Option(
            "--policy", help="Above the quota: refuse writes, or evict (least recently, frequently)."
        ),
    ] = EvictionPolicy.NONE,
) -> None:
    """Make or change a namespace."""
    size = bytes_of_size(max_bytes)
    with connection.client() as client:
        _say_change(connection, client.set_namespace(name, prefix, max_bytes=size, policy=policy))


def remove_namespace(
    connection: Connection, name: Annotated[str, typer.Argument(help="Of the namespace.")]
) -> None:
    """Take a quota away; the keys stay. Exit 1 when there is no such namespace."""
    with connection.client() as client:
        _say_removal(connection, client.remove_namespace(name), f"namespace: {name}")


def list_namespaces(connection: Connection) -> None:
    """Print all namespaces and how much of them is used."""
    with connection.client() as client:
        found = client.namespaces()
    if connection.as_json:
        print_json(
            [
                {
                    "name": n.name,
                    **bytes_fields("prefix", n.prefix),
                    "max_bytes": n.max_bytes,
                    "policy": str(n.policy),
                    "keys": n.keys,
                    "bytes": n.bytes,
                    "complete": n.complete,
                }
                for n in found
            ]
        )
        return
    rows = [
        (
            n.name,
            printable(n.prefix),
            n.keys,
            n.bytes,
            n.max_bytes or "",
            n.policy,
            "" if n.complete else "...",
        )
        for n in found
    ]
    print_table(["name", "prefix", "keys", "bytes", "max bytes", "policy", "counting"], rows)


def add_guard(
    connection: Connection,
    prefix: Annotated[str, typer.Argument(help="Writes below it will need the fence.")],
    by: Annotated[
        str, typer.Option("--by", metavar="LOCK", help='A lock\'s name, or "beginning*" of several.')
    ],
) -> None:
    """From now on, refuse writes below a prefix that carry no fence of the lock's newest holder."""
    with connection.client() as client:
        _say_change(connection, client.guard(prefix, by=by))


def remove_guard(connection: Connection, prefix: Annotated[str, typer.Argument(help="As added.")]) -> None:
    """Take a guard away. Exit 1 when there is none of exactly this prefix."""
    with connection.client() as client:
        _say_removal(connection, client.unguard(prefix), f"guard: {prefix}")


def list_guards(connection: Connection) -> None:
    """Print all guards."""
    with connection.client() as client:
        found = client.guards()
    if connection.as_json:
        print_json([{**bytes_fields("prefix", guard.prefix), "by": guard.by} for guard in found])
    else:
        print_table(["prefix", "by lock"], [(printable(guard.prefix), guard.by) for guard in found])


def statistics(
    connection: Connection,
    node: Annotated[str, typer.Argument(help="A node's name or address; without: the one asked first.")] = "",
    hot_keys: Annotated[int, typer.Option("--hot-keys", min=1, max=100, help="How many of each.")] = 10,
) -> None:
    """Print what one node has seen: hits and misses by namespace, and its most frequent keys."""
    with connection.client() as client:
        found = client.statistics(node, hot_keys=hot_keys)
    if connection.as_json:
        print_json(
            {
                "node": found.node,
                "namespaces": [
                    {
                        "name": n.name,
                        "hits": n.hits,
                        "misses": n.misses,
                        "hit_rate": n.hit_rate,
                        "writes": n.writes,
                        "expired": n.expired,
                        "evicted": n.evicted,
                    }
                    for n in found.namespaces
                ],
                **{
                    name: [{**bytes_fields("key", h.key), "count": h.count, "error": h.error} for h in hot]
                    for name, hot in (("most_read", found.most_read), ("most_written", found.most_written))
                },
            }
        )
        return
    rows = [
        (n.name or "(none)", n.hits, n.misses, f"{n.hit_rate:.1%}", n.writes, n.expired, n.evicted)
        for n in found.namespaces
    ]
    columns = ["namespace", "hits", "misses", "hit rate", "writes", "expired", "evicted"]
    print_table(columns, rows, title=f"node {found.node}")
    for title, hot in (("most read", found.most_read), ("most written", found.most_written)):
        print_table(
            ["key", "count", "at most too many"], [(printable(h.key), h.count, h.error) for h in hot], title
        )


def _say_change(connection: Connection, changed: bool) -> None:
    if connection.as_json:
        print_json({"changed": changed})
    elif not changed:
        say("it was so already")


def _say_removal(connection: Connection, removed: bool, what: str) -> None:
    if connection.as_json:
        print_json({"removed": removed})
    elif not removed:
        say(f"no such {what}")
    if not removed:
        raise typer.Exit(int(Exit.NEGATIVE))
