"""`replcache certs`."""

from pathlib import Path
from typing import Annotated

import typer

from replcache.cli.connection import JsonOption, reported_errors
from replcache.cli.output import print_json, print_table, say


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Operation")(certs)


def certs(
    directory: Annotated[Path, typer.Argument(help="Where the files are, or will be made.")],
    node: Annotated[
        list[str] | None,
        typer.Option(
            "--node",
            help="NAME or NAME=HOST,HOST: a node and the names and addresses that clients use for it. "
            "Repeatable.",
        ),
    ] = None,
    client: Annotated[
        list[str] | None, typer.Option("--client", help="NAME: a client certificate. Repeatable.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Validity of nodes and clients.")] = 365,
    ca_days: Annotated[int, typer.Option(min=1, max=36500, help="Validity of a new authority.")] = 3650,
    renew: Annotated[
        bool, typer.Option("--renew", help="Make anew what exists (not the authority).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a certificate authority and certificates for nodes and clients.

    Run it again with more names at any time: what exists is kept. Private keys are written with rights 0600;
    keep ca.key away from the nodes.
    """
    with reported_errors(as_json):
        from replcache.cli import certs as maker

        subjects = [maker.parse_node(text) for text in node or []]
        subjects += [maker.parse_client(text) for text in client or []]
        done = maker.make(directory, subjects, days, ca_days, renew)
        if as_json:
            print_json([{"certificate": str(path), "state": state} for path, state in done])
            return
        print_table(["certificate", "key", "state"], [(p, p.with_suffix(".key").name, s) for p, s in done])
        if not subjects:
            say("only the authority: name nodes with --node and clients with --client")
