"""The gRPC port itself: its options and how it is opened, in the core or in a gateway."""

from collections.abc import Callable
from functools import partial

import grpc

from replcache import constants
from replcache.config import ServerConfig
from replcache.errors import ConfigError
from replcache.server.tls import GrpcCertificates, TlsFiles


def grpc_options(config: ServerConfig) -> list[tuple[str, int]]:
    """Everything that we depend on, explicitly; the reasons are at the constants."""
    return [
        ("grpc.max_receive_message_length", constants.MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", constants.METADATA_BYTES_MAX),
        ("grpc.absolute_max_metadata_size", constants.METADATA_BYTES_MAX),
        ("grpc.max_concurrent_streams", config.streams_per_connection),
        ("grpc.max_allowed_incoming_connections", config.connections),
        # Measured: with it, a client that opens its first 300 calls at once, before it has heard of the
        # limit, gets 195 of them reset, without details. Who knows the limit and passes it is cut off all
        # the same.
        ("grpc.http.overload_protection", 0),
        ("grpc.server_handshake_timeout_ms", int(constants.GRPC_HANDSHAKE_TIMEOUT_S * 1000)),
        ("grpc.max_connection_idle_ms", int(constants.GRPC_CONNECTION_IDLE_S * 1000)),
        ("grpc.keepalive_time_ms", int(constants.GRPC_KEEPALIVE_S * 1000)),
        ("grpc.keepalive_timeout_ms", int(constants.GRPC_KEEPALIVE_TIMEOUT_S * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", int(constants.GRPC_KEEPALIVE_MIN_S * 1000)),
        # Two processes on one port would split the clients between two nodes without anybody noticing.
        ("grpc.so_reuseport", 0),
    ]


def tls_files(config: ServerConfig) -> TlsFiles | None:
    """None: plain connections."""
    if config.tls_cert is None:
        return None
    assert config.tls_key is not None
    client_ca = config.tls_client_ca if config.client_auth == "require" else None
    return TlsFiles(config.tls_cert, config.tls_key, client_ca)


def listen(server: grpc.aio.Server, address: str, tls: TlsFiles | None) -> str:
    """Opens the port; returns the address with the real number. Raises ConfigError."""
    open_port: Callable[[str], int] = server.add_insecure_port
    if tls is not None:
        open_port = partial(server.add_secure_port, server_credentials=GrpcCertificates(tls).credentials())
    try:
        number = open_port(address)
    except RuntimeError as err:
        raise ConfigError(f"grpc_listen = {address}: can't listen there ({err})") from err
    return f"{address.rpartition(':')[0]}:{number}"
