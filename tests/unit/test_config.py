"""The settings model: precedence, all problems at once, secure defaults, the generated sample."""

import tomllib
from pathlib import Path

import pytest

from replcache.config import LoadedConfig, ServerConfig, is_loopback, load_config, parse_address, sample_toml
from replcache.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
MEMBERS = "n1=127.0.0.1:7411/127.0.0.1:7401,n2=127.0.0.1:7412/127.0.0.1:7402"


def load(tmp_path: Path, toml: str = "", **flags: object) -> LoadedConfig:
    file = tmp_path / "replcache.toml"
    file.write_text(toml)
    return load_config(file, environment={}, flags=flags)


def problems_of(tmp_path: Path, toml: str = "", **flags: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, toml, **flags)
    return str(caught.value)


def test_defaults_alone_are_a_valid_configuration() -> None:
    loaded = load_config(None, environment={}, flags={})
    assert loaded.config == ServerConfig()
    assert loaded.origins == {}


def test_flags_beat_environment_beats_file_beats_defaults(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('name = "from-file"\nlog_level = "ERROR"\nheartbeat_s = 0.05\n')
    environment = {"REPLCACHE_NAME": "from-env", "REPLCACHE_LOG_LEVEL": "DEBUG", "PATH": "/bin"}
    loaded = load_config(file, environment, {"name": "from-flag", "data_dir": None})
    assert (loaded.config.name, loaded.config.log_level) == ("from-flag", "DEBUG")
    assert loaded.config.heartbeat_s == 0.05
    assert loaded.origins == {
        "name": "flag --name",
        "log_level": "env REPLCACHE_LOG_LEVEL",
        "heartbeat_s": f"file {file}",
    }
    described = loaded.describe()
    assert 'name = "from-flag"  # flag --name' in described
    assert "election_min_s = 0.5  # default" in described


def test_file_named_by_the_environment_is_read(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('name = "n7"\n')
    assert load_config(None, {"REPLCACHE_CONFIG": str(file)}).config.name == "n7"


def test_all_problems_are_reported_at_once_with_values_and_origins(tmp_path: Path) -> None:
    text = problems_of(
        tmp_path,
        'nme = "x"\nheartbeat_s = 0.4\nlog_level = "LOUD"\ntls_cert = "c.pem"\n',
        grpc_listen="nowhere",
    )
    assert "nme: there is no such setting" in text
    assert "log_level = 'LOUD'" in text
    assert "grpc_listen = 'nowhere': must look like host:port (flag --grpc-listen)" in text
    assert "election_min_s = 0.5 must be at least 3 x heartbeat_s = 0.4" in text
    assert "tls_cert and tls_key belong together" in text
    assert "replcache.toml" in text


def test_unknown_environment_variable_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"heartbeat: there is no such setting \(env REPLCACHE_HEARTBEAT\)"):
        load_config(None, {"REPLCACHE_HEARTBEAT": "1"})


@pytest.mark.parametrize("name", ["REPLCACHE_TEST_TIMEOUT_FACTOR", "REPLCACHE_CLIENT_ENDPOINTS"])
def test_variables_of_others_are_left_alone(name: str) -> None:
    assert load_config(None, {name: "3"}).config == ServerConfig()


@pytest.mark.parametrize("name", ServerConfig.model_fields)
def test_every_setting_has_its_variable(name: str) -> None:
    """A setting whose variable is taken for somebody else's would be ignored in silence."""
    variable = f"REPLCACHE_{name.upper()}"
    with pytest.raises(ConfigError, match=name):
        # Fits no setting, whatever its type.
        load_config(None, {variable: ["a"]})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("election_min_s = 0.2\n", "3 x heartbeat_s"),
        ("election_max_s = 0.5\n", "equal timeouts split votes"),
        ('grpc_listen = "0.0.0.0:7401"\n', "grpc_listen = 0.0.0.0:7401 is beyond loopback and has no TLS"),
        ('http_listen = "10.0.0.1:80"\n', "http_listen = 10.0.0.1:80 is beyond loopback"),
        ('client_auth = "require"\n', "client_auth = 'require' needs"),
        ('peer_tls_cert = "a"\npeer_tls_key = "b"\n', "peers always check each other"),
        (f'members = "{MEMBERS}"\nname = "n9"\n', "name = n9 is not among the members"),
        ("join = true\n", "join = true needs members"),
        (f'members = "{MEMBERS},{MEMBERS}"\n', "members: name n1 appears twice"),
        ('members = "n1=only"\n', "must look like name=peer_host:port/client_host:port"),
        ('name = "a b"\n', "letters, digits"),
        ('grpc_listen = "::1:7401"\n', "needs brackets"),
        ('grpc_listen = "h:70000"\n', "is not in 0..65535"),
        ("not toml", "configuration file"),
        ("proposals_in_flight = 0\n", "proposals_in_flight = 0"),
    ],
)
def test_problem_is_named(tmp_path: Path, toml: str, expected: str) -> None:
    assert expected in problems_of(tmp_path, toml)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: No such file"):
        load_config(tmp_path / "nothing.toml", {})


def test_listening_beyond_loopback_needs_tls_or_a_clear_word(tmp_path: Path) -> None:
    wide = 'grpc_listen = "0.0.0.0:7401"\nhttp_listen = ""\n'
    assert load(tmp_path, wide + "insecure = true\n").config.insecure
    assert load(tmp_path, wide + 'tls_cert = "c"\ntls_key = "k"\n').config.tls_cert == Path("c")
    assert "peer_listen" in problems_of(tmp_path, f'members = "{MEMBERS}"\npeer_listen = "0.0.0.0:7411"\n')


def test_empty_text_turns_an_optional_setting_off() -> None:
    loaded = load_config(None, {"REPLCACHE_HTTP_LISTEN": "", "REPLCACHE_TLS_CERT": ""})
    assert loaded.config.http_listen is None
    assert loaded.config.tls_cert is None


def test_members_as_text_and_as_tables_are_the_same(tmp_path: Path) -> None:
    tables = (
        "members = [\n"
        '  { name = "n1", peer_address = "127.0.0.1:7411", client_address = "127.0.0.1:7401" },\n'
        '  { name = "n2", peer_address = "127.0.0.1:7412", client_address = "127.0.0.1:7402" },\n]\n'
    )
    assert load(tmp_path, tables).config.members == load(tmp_path, members=MEMBERS).config.members


def test_cluster_id_depends_on_the_name_only() -> None:
    first, second = ServerConfig(cluster_name="a"), ServerConfig(cluster_name="a", name="n2")
    assert first.cluster_id == second.cluster_id != ServerConfig(cluster_name="b").cluster_id
    assert len(first.cluster_id) == 16


def test_committed_sample_is_up_to_date_and_shows_the_defaults(tmp_path: Path) -> None:
    """`replcache config --sample > deploy/replcache.toml` after a change of the model."""
    text = (ROOT / "deploy" / "replcache.toml").read_text()
    assert text == sample_toml()
    lines = text.split("# A cluster of three")[0].splitlines()
    uncommented = [line.removeprefix("# ") for line in lines if " = " in line]
    settings = tomllib.loads("\n".join(line for line in uncommented if line.split(" = ")[0].isidentifier()))
    assert set(settings) == set(ServerConfig.model_fields)
    assert load_config(None, {}, settings).config == ServerConfig()


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("0.0.0.0:1", False),
        ("host:1", False),
    ],
)
def test_loopback(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_parse_address_takes_brackets_away() -> None:
    assert parse_address("[::1]:7401") == ("::1", 7401)
