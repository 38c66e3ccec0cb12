"""A guarded node with a gateway, as a process: callers are told apart, and no secret is written."""

import json
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from replcache import Client
from replcache.errors import PermissionDenied, Unauthenticated
from replcache.pb.v1 import cache_pb2 as pb
from replcache.pb.v1 import cluster_pb2
from tests.helpers.auth import AuthFile, with_token
from tests.helpers.serving import stubs
from tests.helpers.wait import scaled
from tests.integration.test_server_process import ROOT, address, node, stderr

S = grpc.StatusCode
WRONG = "aaaaaaaaaaaa." + "w" * 43
VALUE = "a-value-of-somebody"


@dataclass(frozen=True)
class Place:
    folder: Path
    file: AuthFile
    ca: trustme.CA
    target: str

    def client(self, **arguments: Any) -> Client:
        files = {"ca": str(self.folder / "ca.pem"), "cert": "", "key": "", **arguments}
        return Client(self.target, timeout=scaled(5), server_name="localhost", **files)

    def certificate(self, name: str) -> dict[str, str]:
        leaf = self.ca.issue_cert(name, common_name=name)
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        leaf.cert_chain_pems[0].write_to_path(cert)
        leaf.private_key_pem.write_to_path(key)
        return {"cert": str(cert), "key": str(key)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("guarded")
    ca = trustme.CA()
    leaf = ca.issue_cert("localhost")
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    leaf.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    file = AuthFile(folder)
    for user in ("any", "shop"):
        file.token(user)
    settings = {
        "tls_cert": str(folder / "cert.pem"),
        "tls_key": str(folder / "key.pem"),
        "tls_client_ca": str(folder / "ca.pem"),
        "client_auth": "require",
        "auth_file": str(file.path),
        "audit_file": str(folder / "audit.jsonl"),
        "gateways": "1",
        "log_level": "DEBUG",
    }
    with node(folder, **settings):
        yield Place(folder, file, ca, address(folder))


def test_gateway_hands_tokens_and_certificates_to_the_core(place: Place) -> None:
    somebody, shop = place.certificate("somebody"), place.certificate("shop")
    with place.client(**somebody, token=place.file.token("shop")) as client:
        client.set("shop:1", VALUE)
        with pytest.raises(PermissionDenied):
            client.set("bank:1", VALUE)
    with place.client(**shop) as client:
        entry = client.get("shop:1")
        assert entry is not None
        assert entry.value == VALUE
        with pytest.raises(PermissionDenied):
            client.transfer_leadership()
    for arguments in (somebody, {**shop, "token": WRONG}):
        with place.client(**arguments) as client, pytest.raises(Unauthenticated):
            client.get("shop:1")
    with place.client(**somebody, token=place.file.token("any")) as client:
        assert client.hash().digest
    records = [json.loads(line) for line in (place.folder / "audit.jsonl").read_text().splitlines()]
    assert [(record["call"], record["who"], record["result"]) for record in records] == [
        ("Cluster.TransferLeadership", "shop", "PERMISSION_DENIED"),
        ("Cluster.Hash", "any", "ok"),
    ]
    assert records[0]["by"] == "certificate shop"
    assert records[0]["source"].startswith("ipv4:127.0.0.1")


def test_operators_commands_that_ask_each_node_show_their_token(place: Place, tmp_path: Path) -> None:
    place.certificate("somebody")
    files = {name: str(place.folder / f"somebody.{name}") for name in ("pem", "key")}
    (tmp_path / "token").write_text(place.file.token("any"))
    # The certificate of the node names localhost.
    at = ("-e", f"localhost:{place.target.rpartition(':')[2]}", "--ca", str(place.folder / "ca.pem"))
    with_certificate = (*at, "--cert", files["pem"], "--key", files["key"])
    backup = str(tmp_path / "backup")
    for command in (("snapshot", "save", backup), ("hash",), ("top", "--json")):
        done = replcache(place, *command, *with_certificate, "--token-file", str(tmp_path / "token"))
        assert done.returncode == 0, done.stderr
    refused = replcache(place, "snapshot", "save", f"{backup}.2", *with_certificate, REPLCACHE_TOKEN=WRONG)
    assert refused.returncode == 3, "its status is not shown to strangers either"
    shop = replcache(
        place, "snapshot", "save", f"{backup}.2", *with_certificate, REPLCACHE_TOKEN=place.file.token("shop")
    )
    assert (shop.returncode, "[PERMISSION_DENIED]" in shop.stderr) == (6, True), shop.stderr
    shop = replcache(place, "hash", *with_certificate, REPLCACHE_TOKEN=place.file.token("shop"))
    assert (shop.returncode, "[PERMISSION_DENIED]" in shop.stderr) == (6, True), shop.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "token"]


async def test_unary_calls_of_many_callers_over_one_gateway(place: Place) -> None:
    place.certificate("somebody")
    pem = {name: (place.folder / name).read_bytes() for name in ("ca.pem", "somebody.key", "somebody.pem")}
    credentials = grpc.ssl_channel_credentials(pem["ca.pem"], pem["somebody.key"], pem["somebody.pem"])
    options = [("grpc.ssl_target_name_override", "localhost")]
    async with grpc.aio.secure_channel(place.target, credentials, options) as channel:
        for user, expected in (("shop", S.PERMISSION_DENIED), ("any", S.OK), ("shop", S.PERMISSION_DENIED)):
            cache, _, _, cluster = stubs(with_token(channel, place.file.token(user)))
            assert await cache.Get(pb.GetRequest(key=b"bank:1")).code() is expected
            assert await cluster.Status(cluster_pb2.StatusRequest()).code() is S.OK
        assert await stubs(channel)[0].Get(pb.GetRequest(key=b"bank:1")).code() is S.UNAUTHENTICATED


def test_no_secret_is_in_any_log_file_or_output(place: Place) -> None:
    """Greps all that a run at DEBUG has written for tokens, hashes, values and private keys."""
    for broken in ("replcache://127.0.0.1:1/nonsense?token=" + WRONG, f"replcache://{WRONG}@127.0.0.1:1"):
        done = replcache(place, "get", "shop:1", "--endpoints", broken)
        assert done.returncode == 2
        assert WRONG not in done.stdout + done.stderr
    shown = replcache(place, "config", "--config", str(place.folder / "replcache.toml"))
    listed = replcache(place, "auth", "token", "list", "--file", str(place.file.path))
    assert place.file.token("shop").partition(".")[0] in listed.stdout
    with_environment = replcache(place, "status", "--endpoints", "127.0.0.1:1", REPLCACHE_TOKEN=WRONG)
    written = {
        "stderr": stderr(place.folder),
        "audit": (place.folder / "audit.jsonl").read_text(),
        "config": shown.stdout + shown.stderr,
        "list": listed.stdout + listed.stderr,
        "status": with_environment.stdout + with_environment.stderr,
        "metrics": metrics(place),
    }
    for path in (place.folder / "data").rglob("*"):
        if path.is_file():
            written[str(path)] = path.read_bytes().decode("latin-1")
    assert '"event": "refused"' in written["stderr"]
    secrets = {user: place.file.token(user).partition(".")[2] for user in ("any", "shop")}
    secrets["wrong"] = WRONG.partition(".")[2]
    secrets["hash"] = "$argon2id$"
    secrets["key"] = "PRIVATE KEY"
    found = [
        (name, what) for name, text in written.items() for what, secret in secrets.items() if secret in text
    ]
    assert found == []
    assert [name for name in ("stderr", "audit", "metrics") if VALUE in written[name]] == []
    # The search itself works: the value is in the log of the data.
    assert any(VALUE in text for name, text in written.items() if "data" in name)


def replcache(place: Place, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "replcache.cli.main", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=scaled(30),
        check=False,
    )


def metrics(place: Place) -> str:
    """/metrics over TLS; its certificate is the clients' one."""

    line = next(line for line in stderr(place.folder).splitlines() if '"event": "serving"' in line)
    port = json.loads(line)["http"].rpartition(":")[2]
    context = ssl.create_default_context(cafile=str(place.folder / "ca.pem"))
    context.check_hostname = False
    files = place.certificate("scraper")
    context.load_cert_chain(files["cert"], files["key"])
    with urllib.request.urlopen(f"https://127.0.0.1:{port}/metrics", context=context, timeout=5) as answer:
        return str(answer.read().decode())
