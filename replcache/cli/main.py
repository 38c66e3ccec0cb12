"""`replcache`: the entry point. Run as `python -m replcache.cli.main` where no script is installed."""

import typer

from replcache.cli import (
    certs_command,
    cluster_command,
    data_commands,
    lock_commands,
    node_commands,
    server_commands,
)

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
lock_commands.register(app)
node_commands.register(app)
cluster_command.register(app)
certs_command.register(app)


def main() -> None:
    app(prog_name="replcache")


if __name__ == "__main__":
    main()
