"""How a command reaches the cluster: options shared by all commands, and what is made of them."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from replcache.cli.exits import exit_code
from replcache.cli.output import print_error
from replcache.errors import ConfigError, InvalidRequest, ReplcacheError

if TYPE_CHECKING:
    import grpc

    from replcache import AsyncClient, Client
    from replcache.client.url import ClientSettings

LOCAL_DIRECTORY = Path(".cluster")
PANEL = "Connection"
# A failover takes 1 to 2 s: with this a command that meets one still succeeds.
TIMEOUT_DEFAULT = "5s"
# What shells report for a program that Ctrl-C ended.
EXIT_INTERRUPTED = 130

Command = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the cluster is and how to talk to it; opens nothing by itself."""

    settings: "ClientSettings"
    as_json: bool

    @property
    def endpoints(self) -> tuple[str, ...]:
        """host:port of each node that was named."""
        return self.settings.endpoints

    @property
    def timeout_s(self) -> float:
        return self.settings.timeout_s

    def client(self) -> "Client":
        """A blocking client whose values are RawValue; use it as a context manager."""
        from replcache import Client

        return Client(**self._arguments())

    def value_client(self) -> "Client":
        """As client(), with the usual conversion of values."""
        from replcache import Client

        return Client(**{**self._arguments(), "codec": None})

    def async_client(self) -> "AsyncClient":
        """As client(), for a running loop."""
        from replcache import AsyncClient

        return AsyncClient(**self._arguments())

    def _arguments(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "url": ",".join(settings.endpoints),
            "timeout": settings.timeout_s,
            "read": settings.read,
            "route": settings.route,
            "tls": settings.tls,
            "ca": settings.ca or None,
            "cert": settings.cert or None,
            "key": settings.key or None,
            "server_name": settings.server_name or None,
            "token": settings.token or None,
            "token_file": settings.token_file or None,
            "insecure": settings.insecure,
            "codec": RawCodec(),
        }

    @contextlib.contextmanager
    def calls(self, endpoint: str) -> Iterator[Any]:
        """What to make stubs of, to ask ONE node for what only that node can tell: a channel that is closed
        in the end, with the token in each call if there is one."""
        from replcache.client.channel import Authorized, authorization

        with self._channel(endpoint) as channel:
            yield Authorized(channel, authorization(endpoint, self.settings))

    def _channel(self, endpoint: str) -> "grpc.Channel":
        import grpc

        from replcache.client.channel import channel_options, credentials

        tls = credentials(self.settings)
        options = channel_options(self.settings)
        if tls is None:
            return grpc.insecure_channel(endpoint, options)
        return grpc.secure_channel(endpoint, tls, options)


class RawValue(NamedTuple):
    """Bytes and their MIME type, exactly as they are stored."""

    data: bytes
    content_type: str = ""


class RawCodec:
    """The command line stores what was typed: no value is converted."""

    def encode(self, value: object) -> tuple[bytes, str]:
        if isinstance(value, RawValue):
            return value
        assert isinstance(value, bytes)
        return value, ""

    def decode(self, data: bytes, content_type: str) -> RawValue:
        return RawValue(data, content_type)


def connection_of(
    endpoints: str,
    ca_file: Path | None = None,
    cert_file: Path | None = None,
    key_file: Path | None = None,
    timeout: float | None = None,
    as_json: bool = False,
    token_file: Path | None = None,
    insecure: bool | None = None,
) -> Connection:
    """Checks what was asked for.

    Raises:
        ConfigError: an address, a file or a combination that can't work.
    """
    from replcache.client.url import parse_settings

    given: dict[str, object] = {"timeout": timeout, "insecure": insecure}
    files = (("ca", ca_file), ("cert", cert_file), ("key", key_file), ("token_file", token_file))
    for name, path in files:
        if path is not None and not path.is_file():
            raise ConfigError(f"--{name.replace('_', '-')}: {path} is no file that can be read")
        given[name] = str(path) if path else None
    try:
        settings = parse_settings(endpoints or default_url(), given)
        if settings.tls or settings.token or settings.token_file:
            # The client would say the same, but as a request that was refused.
            from replcache.client.channel import credentials

            credentials(settings)
        return Connection(settings, as_json)
    except InvalidRequest as error:
        raise ConfigError(str(error)) from error


def default_url() -> str:
    """The local cluster of the working directory if there is one, else the default ports of this machine."""
    from replcache.localcluster import LocalCluster, LocalClusterError

    try:
        return LocalCluster(LOCAL_DIRECTORY).url
    except LocalClusterError as error:
        raise ConfigError(str(error)) from error


def parse_duration(text: str) -> float:
    """Seconds of "250ms", "10s", "1h30m" or a plain number of seconds, as an option's parser."""
    from replcache.client.durations import parse_seconds

    try:
        # Other digits than ASCII's are digits to isdigit() but not to float().
        is_plain = text.isascii() and text.replace(".", "", 1).isdigit()
        return float(text) if is_plain else parse_seconds(text, "the duration")
    except InvalidRequest as error:
        raise typer.BadParameter(str(error)) from error


def duration_option(*names: str, help: str, **more: Any) -> Any:
    """A typer.Option whose value is seconds and whose text is a duration."""
    return typer.Option(*names, help=help, parser=parse_duration, metavar="DURATION", **more)


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# (name, annotation, default) of what `connected` adds to a command.
_OPTIONS: tuple[tuple[str, Any, object], ...] = (
    (
        "endpoints",
        Annotated[
            str,
            typer.Option(
                "--endpoints",
                "-e",
                envvar="REPLCACHE_URL",
                show_default=False,
                help="host:port,host:port or replcache://...; without it the cluster of ./.cluster, "
                "or 127.0.0.1:7401-7403.",
                rich_help_panel=PANEL,
            ),
        ],
        "",
    ),
    (
        "ca_file",
        Annotated[
            Path | None,
            typer.Option(
                "--ca",
                envvar="REPLCACHE_CLIENT_CA",
                help="PEM file of the authority that signed the nodes; turns TLS on.",
                rich_help_panel=PANEL,
            ),
        ],
        None,
    ),
    (
        "cert_file",
        Annotated[
            Path | None,
            typer.Option(
                "--cert",
                envvar="REPLCACHE_CLIENT_CERT",
                help="PEM file of the own certificate.",
                rich_help_panel=PANEL,
            ),
        ],
        None,
    ),
    (
        "key_file",
        Annotated[
            Path | None,
            typer.Option(
                "--key",
                envvar="REPLCACHE_CLIENT_KEY",
                help="PEM file of its private key.",
                rich_help_panel=PANEL,
            ),
        ],
        None,
    ),
    (
        "timeout",
        Annotated[
            Any,
            duration_option(
                "--timeout",
                envvar="REPLCACHE_CLIENT_TIMEOUT",
                help="How long the answer may take.",
                rich_help_panel=PANEL,
            ),
        ],
        TIMEOUT_DEFAULT,
    ),
    (
        "token_file",
        Annotated[
            Path | None,
            typer.Option(
                "--token-file",
                envvar="REPLCACHE_TOKEN_FILE",
                help="File with the token, where nodes ask for one; or REPLCACHE_TOKEN in the environment.",
                rich_help_panel=PANEL,
            ),
        ],
        None,
    ),
    (
        "insecure",
        Annotated[
            bool | None,
            typer.Option(
                "--insecure",
                help="Send the token without TLS to other machines too.",
                show_default=False,
                rich_help_panel=PANEL,
            ),
        ],
        None,
    ),
    ("as_json", JsonOption, False),
)


@contextlib.contextmanager
def reported_errors(as_json: bool) -> Iterator[None]:
    """Turns errors into a message on stderr and an exit code (exits.py); Ctrl-C into 130."""
    try:
        yield
    except ReplcacheError as error:
        print_error(error, as_json)
        raise typer.Exit(int(exit_code(error))) from error
    except BrokenPipeError:
        raise  # `| head` has read enough: Typer ends quietly
    except (OSError, UnicodeEncodeError) as error:
        # A file or folder that can't be used, or an argument that is no UTF-8. Without this both would end
        # with 1, which says that the cluster answered no.
        found = ConfigError(_what_is_wrong(error))
        print_error(found, as_json)
        raise typer.Exit(int(exit_code(found))) from error
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _what_is_wrong(error: OSError | UnicodeEncodeError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object!r} is no UTF-8 text"
    return f"{error.filename}: {error.strerror}" if error.filename is not None else str(error)


def connected(command: Command) -> Command:
    """Makes a Typer command of `command(connection, ...)`: adds the connection options and reports errors."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, annotation, default in _OPTIONS
    ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        options = {name: given.pop(name) for name, _, _ in _OPTIONS}
        with reported_errors(options["as_json"]):
            command(connection_of(**options), **given)

    keyword_own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    parameters = [*keyword_own, *added]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # Typer reads it
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
