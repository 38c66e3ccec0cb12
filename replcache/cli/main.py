"""`replcache`: the entry point. Run as `python -m replcache.cli.main` where no script is installed."""

import os

import typer

from replcache.cli import (
    auth_commands,
    bench_command,
    certs_command,
    cluster_command,
    data_commands,
    database_commands,
    election_commands,
    hash_command,
    keyspace_commands,
    lease_commands,
    lock_commands,
    many_commands,
    node_commands,
    server_commands,
    snapshot_commands,
    top_command,
    watch_command,
)
from replcache.cli.connection import default_url

HELP = """A replicated cache: linearizable, durable, with fenced locks.

Exit codes:

- 0 done
- 1 a negative answer: no such key, a condition does not hold, the lock was not granted
- 2 usage or configuration
- 3 unavailable: certainly not executed, try again
- 4 refused: fence, type, range, limit or quota
- 5 unknown: the write may or may not have been executed
- 6 not allowed
- 7 this node can't run: its disk or state can't be trusted
- 8 the lock was lost while its command ran
"""

app = typer.Typer(
    name="replcache",
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
server_commands.register(app)
data_commands.register(app)
many_commands.register(app)
watch_command.register(app)
lock_commands.register(app)
lease_commands.register(app)
election_commands.register(app)
node_commands.register(app)
top_command.register(app)
hash_command.register(app)
snapshot_commands.register(app)
cluster_command.register(app)
database_commands.register(app)
keyspace_commands.register(app)
certs_command.register(app)
auth_commands.register(app)
bench_command.register(app)


@app.command(
    rich_help_panel="Operation",
    add_help_option=False,
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
        "help_option_names": [],
    },
)
def verify(context: typer.Context) -> None:
    """Use a cluster for a while, record what it answers, and judge whether that was linearizable.

    Exit 0 when it was, 1 when it was not, 2 when there is no verdict.
    """
    # An application of its own, with sub-commands: it is loaded only when it is asked for.
    from replcache.verify.cli import app as verify_app

    if "REPLCACHE_URL" not in os.environ:
        os.environ["REPLCACHE_URL"] = default_url()
    verify_app(args=list(context.args), prog_name="replcache verify")


def main() -> None:
    app(prog_name="replcache")


if __name__ == "__main__":
    main()
