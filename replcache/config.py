"""The one settings model: defaults < TOML file < REPLCACHE_* environment < flags.

Unknown keys are errors, wherever they stand; all problems are reported at once, each with the setting's
name, the value and where it came from. `deploy/replcache.toml` is generated from this model (sample_toml()).
"""

import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic import model_validator as _model_validator
from pydantic_core import ErrorDetails

from replcache import constants
from replcache.errors import ConfigError
from replcache.hosts import is_loopback_host

ENV_PREFIX = "REPLCACHE_"
# Variables of the same prefix that are not the server's: the file itself, tests, clients.
ENV_NOT_OURS = (
    "REPLCACHE_CONFIG",
    "REPLCACHE_TEST_",
    "REPLCACHE_CLIENT_",
    "REPLCACHE_CLI_",
    "REPLCACHE_URL",
    "REPLCACHE_TOKEN",
    # Given to the command of `replcache lock`, which may be a server.
    "REPLCACHE_FENCE_TOKEN",
    "REPLCACHE_LOCK_NAME",
)
# Between the problems of one model validator; pydantic takes one message only.
_SEPARATOR = "\n"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")


def _checked_address(text: str) -> str:
    parse_address(text)
    return text


def parse_address(text: str) -> tuple[str, int]:
    """`host:port`, `[ipv6]:port` -> (host, port). Raises ValueError with what is wrong."""
    host, separator, port = text.rpartition(":")
    if not separator or not host:
        raise ValueError("must look like host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address needs brackets: [::1]:7401")
    if not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ValueError(f"port {port!r} is not in 0..65535")
    if len(text.encode()) > constants.ADDRESS_BYTES_MAX:
        raise ValueError(f"longer than {constants.ADDRESS_BYTES_MAX} bytes")
    return host, int(port)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the address. A name other than localhost counts as reachable."""
    host, _ = parse_address(address)
    return is_loopback_host(host)


def _checked_name(text: str) -> str:
    if not _NAME.match(text) or len(text) > constants.MEMBER_NAME_BYTES_MAX:
        raise ValueError(
            f"letters, digits and _ . - only, at most {constants.MEMBER_NAME_BYTES_MAX}, not empty"
        )
    return text


def _members_from_text(value: object) -> object:
    """`n1=peer/client,n2=...` as an environment variable or flag holds it."""
    if not isinstance(value, str):
        return value
    members = []
    for part in filter(None, (part.strip() for part in value.split(","))):
        name, equals, addresses = part.partition("=")
        peer, slash, client = addresses.partition("/")
        if not equals or not slash:
            raise ValueError(f"{part!r} must look like name=peer_host:port/client_host:port")
        members.append({"name": name, "peer_address": peer, "client_address": client})
    return members


Address = Annotated[str, AfterValidator(_checked_address)]
Name = Annotated[str, AfterValidator(_checked_name)]


class MemberConfig(BaseModel):
    """One node of the cluster as the others reach it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    peer_address: Address
    client_address: Address


class ServerConfig(BaseModel):
    """All settings of one node; see the descriptions (they are the comments of the sample file)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # -- who
    cluster_name: Name = Field("replcache", description="Nodes of different clusters refuse each other.")
    name: Name = Field("n1", description="This node's name; with TLS its peer certificate carries it.")
    data_dir: Path = Field(Path("data"), description="Log, snapshots and identity; one node a directory.")
    members: Annotated[tuple[MemberConfig, ...], BeforeValidator(_members_from_text)] = Field(
        (),
        description="The nodes that found the cluster together, equal on all of them; [] means this node"
        " alone.\nIn the environment and as a flag: n1=peer_host:port/client_host:port,n2=...",
    )
    join: bool = Field(
        False,
        description="True: this node is added to a running cluster (AddMember) and does not found one.",
    )
    # -- addresses
    grpc_listen: Address = Field("127.0.0.1:7401", description="Where clients connect.")
    grpc_advertise: Address | None = Field(None, description="How clients reach it; default: grpc_listen.")
    peer_listen: Address = Field("127.0.0.1:7411", description="Where the other nodes connect.")
    peer_advertise: Address | None = Field(None, description="How nodes reach it; default: peer_listen.")
    http_listen: Address | None = Field(
        "127.0.0.1:7421", description='Status page, /metrics, /healthz and /readyz; "" turns it off.'
    )
    # -- security
    insecure: bool = Field(
        False, description="Allows to listen beyond loopback without TLS. Anybody there owns the data."
    )
    tls_cert: Path | None = Field(
        None, description="PEM chain of the gRPC and HTTP ports; reloaded on change."
    )
    tls_key: Path | None = Field(None, description="PEM key of tls_cert.")
    tls_client_ca: Path | None = Field(None, description="PEM roots that clients' certificates come from.")
    client_auth: Literal["none", "require"] = Field(
        "none", description="require: clients need a certificate of tls_client_ca."
    )
    http_tls: bool = Field(
        True, description="Use tls_cert on the HTTP port too; false: plain HTTP, also beyond loopback."
    )
    peer_tls_cert: Path | None = Field(None, description="PEM chain that proves this node's name to peers.")
    peer_tls_key: Path | None = Field(None, description="PEM key of peer_tls_cert.")
    peer_tls_ca: Path | None = Field(None, description="PEM roots of the peers' certificates.")
    auth_file: Path | None = Field(
        None,
        description="TOML file with users, roles and tokens (docs/security.md); reloaded on change. With it,"
        "\nwhatever no role allows is refused; without it, whoever reaches a port may do everything.",
    )
    audit_file: Path | None = Field(
        None, description="JSON lines about administrative calls; default: among the node's other log lines."
    )
    metrics_open: bool = Field(
        True, description="/metrics for everybody; false: as the other pages. /healthz, /readyz always are."
    )
    pages_open: bool = Field(
        False,
        description="The HTTP port's other pages for everybody; false: only from loopback, and with auth_file"
        "\nfor tokens with the right Http.Pages.",
    )
    # -- durability
    durability: Literal["fsync", "none"] = Field(
        "fsync", description="none: acknowledged writes survive kill -9, but not a power loss of a majority."
    )
    snapshot_after_bytes: int = Field(
        constants.SNAPSHOT_AFTER_BYTES, ge=64 * 1024, description="Log bytes after which to take a snapshot."
    )
    snapshot_after_entries: int = Field(
        constants.SNAPSHOT_AFTER_ENTRIES, ge=10, description="Log entries after which to take a snapshot."
    )
    log_kept_entries: int = Field(
        constants.LOG_KEPT_ENTRIES, ge=0, description="Entries kept behind a snapshot for slow followers."
    )
    state_check_s: float = Field(
        3600.0,
        ge=0,
        description="How often the leader compares the replicas' states (replcache_state_divergences_total);"
        " 0: never. It reads everything, in a thread.",
    )
    # -- timing, in seconds; validated together
    heartbeat_s: float = Field(
        constants.HEARTBEAT_INTERVAL_S, ge=0.01, le=10, description="Leader's heartbeats."
    )
    election_min_s: float = Field(
        constants.ELECTION_TIMEOUT_MIN_S, ge=0.05, le=60, description="Shortest silence before an election."
    )
    election_max_s: float = Field(
        constants.ELECTION_TIMEOUT_MAX_S, ge=0.05, le=120, description="Longest silence before an election."
    )
    staleness_probe_s: float = Field(
        constants.STALENESS_PROBE_INTERVAL_S,
        ge=0,
        le=60,
        description="How often the node proves how fresh its copy is (READ_LEVEL_ONE); 0: only on demand.",
    )
    session_ttl_s: float = Field(
        constants.SESSION_TTL_MS_DEFAULT / 1000,
        ge=constants.SESSION_TTL_MS_MIN / 1000,
        le=constants.SESSION_TTL_MS_MAX / 1000,
        description="Session.Open without a ttl.",
    )
    stop_grace_s: float = Field(
        constants.STOP_GRACE_S, ge=0, le=600, description="Time for requests under way when stopping."
    )
    # -- limits
    streams_per_connection: int = Field(
        constants.STREAMS_PER_CONNECTION_MAX, ge=1, le=10_000, description="Calls at once on a connection."
    )
    proposals_in_flight: int = Field(
        constants.PROPOSALS_IN_FLIGHT_MAX, ge=1, description="Writes at once before OVERLOADED."
    )
    connections: int = Field(
        constants.CONNECTIONS_MAX, ge=1, description="gRPC connections at once; more are closed at once."
    )
    limit_ops_per_s: float = Field(
        0.0, ge=0, le=1e12, description="Operations a second of one client (user, else address); 0: no limit."
    )
    limit_bytes_per_s: float = Field(
        0.0, ge=0, le=1e15, description="Bytes of requests and answers a second of one client; 0: no limit."
    )
    limit_calls: int = Field(
        0, ge=0, description="Calls and streams at once of one client, over its connections; 0: no limit."
    )
    gateways: int = Field(
        0,
        ge=0,
        le=constants.GATEWAYS_MAX,
        description="Processes that take gRPC off the node's one thread, for machines with cores to spare and"
        "\nclients that send single calls; 0: the node speaks gRPC itself.",
    )
    # -- fault drills
    fault_injection: bool = Field(
        False, description="For drills: POST /fault cuts peer links and spoils the disk. Loopback only."
    )
    # -- observability
    status_page: bool = Field(True, description="The status page for people at / of the HTTP port.")
    status_keys: Literal["auto", "show", "hide"] = Field(
        "auto",
        description="Names of keys, locks and their holders on the status page (values never);"
        " auto: only when http_listen is loopback.",
    )
    reflection: bool = Field(True, description="gRPC server reflection (grpcurl and the like).")
    tracing: Literal["off", "otlp"] = Field(
        "off",
        description="otlp: traces of calls go to OTEL_EXPORTER_OTLP_ENDPOINT (docs/tracing.md);"
        " needs the extra `otel`.",
    )
    tracing_keys: bool = Field(False, description="Names of the keys of writes in traces (values never).")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level.")
    log_format: Literal["json", "console"] = Field("console", description="json for machines.")

    @_model_validator(mode="before")
    @classmethod
    def _empty_means_none(cls, data: Any) -> Any:
        """Environment variables can't hold a null."""
        if isinstance(data, dict):
            optional = {name for name, field in cls.model_fields.items() if field.default is None}
            optional.add("http_listen")
            return {key: None if key in optional and value == "" else value for key, value in data.items()}
        return data

    @_model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = [*_timing(self), *_security(self), *_membership(self)]
        if problems:
            raise ValueError(_SEPARATOR.join(problems))
        return self

    @property
    def cluster_id(self) -> bytes:
        """16 bytes that stand for the cluster's name on the wire and on disk."""
        return hashlib.sha256(b"replcache cluster " + self.cluster_name.encode()).digest()[:16]

    @property
    def grpc_advertised(self) -> str:
        return self.grpc_advertise or self.grpc_listen

    @property
    def peer_advertised(self) -> str:
        return self.peer_advertise or self.peer_listen


def _timing(config: ServerConfig) -> list[str]:
    problems = []
    if not config.heartbeat_s * 3 <= config.election_min_s:
        problems.append(
            f"election_min_s = {config.election_min_s} must be at least 3 x heartbeat_s"
            f" = {config.heartbeat_s}: one lost heartbeat must not start an election"
        )
    if not config.election_min_s < config.election_max_s:
        problems.append(
            f"election_max_s = {config.election_max_s} must be above election_min_s"
            f" = {config.election_min_s}: equal timeouts split votes"
        )
    return problems


def _security(config: ServerConfig) -> list[str]:
    problems = []
    for cert, key in (("tls_cert", "tls_key"), ("peer_tls_cert", "peer_tls_key")):
        if (getattr(config, cert) is None) != (getattr(config, key) is None):
            problems.append(f"{cert} and {key} belong together")
    if (config.peer_tls_cert is None) != (config.peer_tls_ca is None):
        problems.append("peer_tls_cert and peer_tls_ca belong together: peers always check each other")
    if config.client_auth == "require" and (config.tls_client_ca is None or config.tls_cert is None):
        problems.append("client_auth = 'require' needs tls_cert, tls_key and tls_client_ca")
    if config.fault_injection and config.http_listen and not is_loopback(config.http_listen):
        problems.append(f"fault_injection needs http_listen = {config.http_listen} on loopback")
    listens = [("grpc_listen", config.grpc_listen, config.tls_cert)]
    if config.members:
        listens.append(("peer_listen", config.peer_listen, config.peer_tls_cert))
    if config.http_listen and config.http_tls:
        listens.append(("http_listen", config.http_listen, config.tls_cert))
    if not config.insecure:
        problems += [
            f"{name} = {address} is beyond loopback and has no TLS: give certificates, or say insecure = true"
            for name, address, certificate in listens
            if certificate is None and not is_loopback(address)
        ]
    return problems


def _membership(config: ServerConfig) -> list[str]:
    problems = []
    for field in ("name", "peer_address", "client_address"):
        seen = [getattr(member, field) for member in config.members]
        problems += [
            f"members: {field} {one} appears twice" for one in sorted(set(seen)) if seen.count(one) > 1
        ]
    if config.members and not config.join and config.name not in [member.name for member in config.members]:
        problems.append(f"name = {config.name} is not among the members (or say join = true)")
    if config.join and not config.members:
        problems.append("join = true needs members: at least one node of the running cluster")
    return problems


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """The effective configuration and where each setting came from (`default`, `file x`, `env X`, `flag`)."""

    config: ServerConfig
    origins: Mapping[str, str]

    def describe(self) -> str:
        """One line a setting: name = value, and its origin as a comment."""
        lines = []
        for name in ServerConfig.model_fields:
            text = toml_value(getattr(self.config, name))
            lines.append(f"{name} = {text}  # {self.origins.get(name, 'default')}")
        return "\n".join(lines) + "\n"


def load_config(
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> LoadedConfig:
    """Puts the layers together.

    Args:
        path: TOML file; None: REPLCACHE_CONFIG of the environment, or none at all.
        environment: None: the process's own.
        flags: settings by name; None values count as not given.
    Raises:
        ConfigError: lists every problem with name, value and origin.
    """
    environment = os.environ if environment is None else environment
    if path is None and environment.get("REPLCACHE_CONFIG"):
        path = Path(environment["REPLCACHE_CONFIG"])
    merged: dict[str, object] = {}
    origins: dict[str, str] = {}
    for name, value in (_read_file(path) if path else {}).items():
        merged[name], origins[name] = value, f"file {path}"
    for variable, text in environment.items():
        name = variable.removeprefix(ENV_PREFIX).lower()
        # client_auth is a setting although the clients' variables begin so.
        is_ours = name in ServerConfig.model_fields or not variable.startswith(ENV_NOT_OURS)
        if variable.startswith(ENV_PREFIX) and is_ours:
            merged[name], origins[name] = text, f"env {variable}"
    for name, value in (flags or {}).items():
        if value is not None:
            merged[name], origins[name] = value, f"flag --{name.replace('_', '-')}"
    try:
        config = ServerConfig.model_validate(merged)
    except ValidationError as err:
        problems = _problems(err, merged, origins)
        raise ConfigError(
            "the configuration has problems:\n" + "\n".join(f"  - {problem}" for problem in problems)
        ) from err
    return LoadedConfig(config, origins)


def _problems(err: ValidationError, merged: dict[str, object], origins: Mapping[str, str]) -> list[str]:
    """Every problem once; what does not fit together is also looked for among the fields that are good."""
    problems: list[str] = []
    wrong: set[str] = set()
    for detail in err.errors(include_url=False):
        if not detail["loc"]:
            return _split(detail)
        wrong.add(str(detail["loc"][0]))
        problems.append(_problem(detail, origins))
    try:
        ServerConfig.model_validate({name: value for name, value in merged.items() if name not in wrong})
    except ValidationError as second:
        for detail in second.errors(include_url=False):
            problems += [text for text in _split(detail) if not any(name in text for name in wrong)]
    return problems


def _split(detail: ErrorDetails) -> list[str]:
    return detail["msg"].removeprefix("Value error, ").split(_SEPARATOR)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as err:
        raise ConfigError(f"configuration file {path}: {err.strerror}") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise ConfigError(f"configuration file {path}: {err}") from err
    except RecursionError as err:
        raise ConfigError(f"configuration file {path}: values are nested too deeply") from err


def _problem(detail: ErrorDetails, origins: Mapping[str, str]) -> str:
    location = detail["loc"]
    message = detail["msg"].removeprefix("Value error, ")
    name = ".".join(str(part) for part in location)
    origin = origins.get(str(location[0]), "default")
    if detail["type"] == "extra_forbidden":
        return f"{name}: there is no such setting ({origin})"
    return f"{name} = {detail['input']!r}: {message} ({origin})"


def toml_value(value: object) -> str:
    """A value as TOML writes it; None as the empty string, which the model reads as None."""
    if value is None:
        return '""'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    assert isinstance(value, BaseModel), f"no TOML form for {type(value).__name__}"
    fields = (f"{name} = {toml_value(item)}" for name, item in value)
    return "{ " + ", ".join(fields) + " }"


def sample_toml() -> str:
    """deploy/replcache.toml: every setting with its description and default, commented out."""
    lines = [
        "# Settings of a replcache node. Generated from replcache/config.py; every line shows the default.",
        "# Order of precedence: this file < REPLCACHE_<NAME> in the environment < --<name> flags.",
    ]
    for name, field in ServerConfig.model_fields.items():
        assert field.description is not None
        comment = [f"# {line}" for line in field.description.splitlines()]
        lines += ["", *comment, f"# {name} = {toml_value(field.default)}"]
    lines += ["", "# A cluster of three:", "# members = ["]
    for number in (1, 2, 3):
        lines.append(
            f'#   {{ name = "n{number}", peer_address = "127.0.0.1:741{number}",'
            f' client_address = "127.0.0.1:740{number}" }},'
        )
    lines.append("# ]")
    return "\n".join(lines) + "\n"
