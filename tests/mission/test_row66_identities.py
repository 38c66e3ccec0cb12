"""Three nodes with TLS, users and tokens: good callers work, and the wrong identities are refused."""

import datetime
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from replcache import Client
from replcache.config import is_loopback
from replcache.errors import PermissionDenied, ReplcacheError, Unauthenticated
from tests.helpers.auth import AuthFile
from tests.helpers.process_cluster import ProcessCluster
from tests.helpers.wait import wait_until

YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


class Authority:
    """A CA that writes certificates into a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.ca = trustme.CA()
        self.roots = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(self.roots)

    def issue(self, name: str, *hosts: str, **options: Any) -> dict[str, str]:
        leaf = self.ca.issue_cert(name, *hosts, common_name=name, **options)
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        leaf.cert_chain_pems[0].write_to_path(cert)
        leaf.private_key_pem.write_to_path(key)
        return {"cert": str(cert), "key": str(key)}


def start(cluster: ProcessCluster, authority: Authority, file: AuthFile) -> None:
    for name in cluster.names:
        own = authority.issue(name, "localhost", "127.0.0.1")
        cluster.start(
            name,
            REPLCACHE_TLS_CERT=own["cert"],
            REPLCACHE_TLS_KEY=own["key"],
            REPLCACHE_TLS_CLIENT_CA=str(authority.roots),
            REPLCACHE_CLIENT_AUTH="require",
            REPLCACHE_HTTP_TLS="false",
            REPLCACHE_PEER_TLS_CERT=own["cert"],
            REPLCACHE_PEER_TLS_KEY=own["key"],
            REPLCACHE_PEER_TLS_CA=str(authority.roots),
            REPLCACHE_AUTH_FILE=str(file.path),
        )
    cluster.wait_ready()


def test_row66_wrong_identities_are_refused_on_a_real_cluster(
    cluster: ProcessCluster, tmp_path: Path
) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    file = AuthFile(tmp_path)
    token = file.token("shop")
    start(cluster, ours, file)

    def client(files: dict[str, str], **more: Any) -> Client:
        return Client(cluster.url, ca=str(ours.roots), timeout=5, **files, **more)

    shop = ours.issue("shop")
    with client(shop) as by_certificate, client(ours.issue("somebody"), token=token) as by_token:
        by_certificate.set("shop:1", 1)
        assert by_token.get_value("shop:1") == 1
        with pytest.raises(PermissionDenied):
            by_token.set("bank:1", 1)
        with by_token.lock("shop/l", ttl=5), pytest.raises(PermissionDenied):
            by_token.transfer_leadership()

        refused: dict[str, type[ReplcacheError]] = {}

        def attempt(who: str, files: dict[str, str], **more: Any) -> None:
            with client(files, **more) as stranger, pytest.raises(ReplcacheError) as caught:
                stranger.set("shop:2", "by a stranger", timeout=3)
            refused[who] = type(caught.value)

        attempt("wrong authority", theirs.issue("shop"))
        attempt("over", ours.issue("shop-old", not_before=YESTERDAY.replace(year=2020), not_after=YESTERDAY))
        attempt("no user's name", ours.issue("n9"))
        attempt(
            "a node's certificate", {"cert": str(ours.folder / "n1.pem"), "key": str(ours.folder / "n1.key")}
        )
        assert refused["no user's name"] is refused["a node's certificate"] is Unauthenticated
        assert by_certificate.get("shop:2") is None

        file.change('[users.shop]\nroles = ["shop"]', "[users.shop]\nroles = []")

        def is_refused() -> bool:
            try:
                by_certificate.set("shop:1", 2)
            except PermissionDenied:
                return True
            return False

        wait_until(is_refused, 10, "the role is gone on the node that serves")
    print("refused:", {who: cls.__name__ for who, cls in refused.items()})

    for name in cluster.names:
        peer = cluster.local.layout(name).peer_address
        assert is_loopback(peer)
        # A stranger on the peer port is shown the door before a word is said.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        host, _, port = peer.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as raw:
            with pytest.raises((ssl.SSLError, ConnectionError)), context.wrap_socket(raw) as tls:
                if not tls.recv(1):
                    raise ConnectionError("closed")
        wait_until(
            lambda name=name: '"cause": "tls"' in cluster.log(name) or "cause=tls" in cluster.log(name), 5
        )
