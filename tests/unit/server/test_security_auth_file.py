"""The auth file: what it means, what is wrong with it and where, and edits that keep the rest as it was."""

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from replcache.errors import ConfigError
from replcache.server.security.auth_edit import create_token, revoke_token
from replcache.server.security.auth_file import find_lines, load_policy, parse_policy
from replcache.server.security.rights import Rights, covering, prefix_end, union
from replcache.server.security.rules import ADMIN_CALLS
from replcache.server.security.tokens import hash_secret, is_secret, split_token
from tests.helpers.auth import AUTH, AuthFile

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
GOOD_HASH = hash_secret("x" * 43)


def test_roles_of_a_user_add_up() -> None:
    policy = parse_policy(
        """
        [roles.a]
        read = ["a:", "a:b:"]
        locks = ["l"]
        [roles.b]
        read = ["b:"]
        write = ["b:"]
        admin = ["Cluster.*"]
        [users.both]
        roles = ["a", "b"]
        ops_per_s = 10.0
        """,
        "f",
    )
    user = policy.users["both"]
    cluster = frozenset(call for call in ADMIN_CALLS if call.startswith("Cluster."))
    assert user.rights == Rights((b"a:", b"b:"), (b"b:",), ("l",), admin=cluster)
    assert user.limits.ops_per_s == 10.0
    assert user.limits.calls is None


def test_nobody_without_a_role_has_a_right() -> None:
    assert parse_policy(AUTH, "f").users["nobody"].rights == Rights()
    assert union([]) == Rights()


def test_tokens_of_a_user_who_was_taken_out_are_worth_nothing_and_no_error() -> None:
    policy = parse_policy("[users.v]\n" + TOKEN, "f")
    assert policy.orphans == ("aaaaaaaaaaaa",)
    assert policy.tokens == {}


def test_prefixes() -> None:
    assert covering(["b", "a:x", "a:", "a:", "ab"]) == ("a:", "ab", "b")
    assert covering([b"x", b""]) == (b"",)
    assert (prefix_end(b"a:"), prefix_end(b"a\xff"), prefix_end(b"\xff")) == (b"a;", b"b", b"")


TOKEN = f'[[tokens]]\nid = "aaaaaaaaaaaa"\nuser = "u"\nhash = "{GOOD_HASH}"\n'


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("[roles.a]\n\nreed = ['x']\n", ["line 3, roles.a.reed: there is no such setting"]),
        ("[role.a]\n", ["line 1, role: there is no such setting"]),
        ("[users.u]\nroles = ['x']\n", ["line 2, users.u.roles.0: there is no role 'x'"]),
        ("[roles.a]\nread = 'x'\n", ["line 2, roles.a.read: Input should be a valid list"]),
        ("[roles.a]\nread = [\n 5]\n", ["line 2, roles.a.read.0: Input should be a valid string"]),
        ("[roles.a]\nadmin = ['Cluster.Explode']\n", ["line 2, roles.a.admin.0: names no administrative"]),
        ("[users.u]\n" + TOKEN + TOKEN, ["line 7, tokens.1.id: appears twice"]),
        ("[users.u]\n" + TOKEN.replace("$argon2id", "$bcrypt"), ["line 5, tokens.0.hash: is not as"]),
        ("[users.u]\n" + TOKEN.replace("aaaaaaaaaaaa", "A"), ["line 3, tokens.0.id: is not as"]),
        (
            "[users.u]\ncertificates = ['c']\n[users.v]\ncertificates = ['c']\n",
            ["line 4, users.v.certificates.0: 'c' belongs to 'u' already"],
        ),
        ("[users.u]\nops_per_s = -1.0\n", ["line 2, users.u.ops_per_s: Input should be greater"]),
        ("[users.'a b']\n", ["line 1, users.a b.[key]: String should match"]),
        ("[roles.a]\nx = 1\n\n[users.u]\ny = 2\n", ["line 2, roles.a.x", "line 5, users.u.y"]),
        ("[roles.a\n", ["Expected", "at line 1"]),
        ("a = " + "[" * 5000, ["nested too deeply"]),
    ],
)
def test_problems_name_line_and_field(text: str, problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_policy(text, "auth.toml")
    message = str(caught.value)
    assert "auth.toml" in message
    for problem in problems:
        assert problem in message, message


@pytest.mark.parametrize("text", ['[users.u]\n[[tokens]]\nid = "SECRET"\n', "hash = SECRET\n", '"SECRET\n'])
def test_problems_show_no_content(text: str) -> None:
    """A token pasted into the wrong place must not end up in a log."""
    with pytest.raises(ConfigError) as caught:
        parse_policy(text, "auth.toml")
    assert "SECRET" not in str(caught.value)


def test_lines_of_nested_and_quoted_names() -> None:
    lines = find_lines('# x\n[roles."a b"]\nread = []\n[[tokens]]\nid = 1\n[[tokens]]\nusers.u.roles = 1\n')
    assert lines["roles", "a b"] == 2
    assert lines["roles", "a b", "read"] == 3
    assert lines["tokens", 1, "users", "u", "roles"] == 7


@pytest.mark.parametrize("what", ["missing", "folder", "bytes"])
def test_file_that_can_not_be_read(tmp_path: Path, what: str) -> None:
    path = tmp_path / "auth.toml"
    if what == "folder":
        path.mkdir()
    elif what == "bytes":
        path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"auth file .*auth\.toml"):
        load_policy(path)


def test_tokens_are_added_and_revoked_and_the_rest_stays(tmp_path: Path) -> None:
    file = AuthFile(tmp_path, "# kept\n" + AUTH)
    token_id, token = create_token(file.path, "shop", NOW, NOW + timedelta(days=1), 'a "note"')
    other = file.token("reader")
    text = file.path.read_text()
    assert text.startswith("# kept\n" + AUTH.rstrip("\n"))
    assert token.partition(".")[2] not in text
    assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600
    found = load_policy(file.path).tokens[token_id]
    assert (found.user, found.note, found.is_good(NOW)) == ("shop", 'a "note"', True)
    assert not found.is_good(NOW + timedelta(days=1))
    assert found.hash not in repr(found)
    parts = split_token(f"Bearer {token}")
    assert parts is not None
    assert parts[0] == token_id
    assert is_secret(parts[1], found.hash)
    assert not is_secret(parts[1][:-1] + "!", found.hash)
    assert revoke_token(file.path, token_id, NOW).user == "shop"
    policy = load_policy(file.path)
    assert policy.tokens[token_id].revoked == NOW
    assert policy.tokens[other.partition(".")[0]].revoked is None
    for wrong, why in ((token_id, "already"), ("bbbbbbbbbbbb", "there is no token")):
        with pytest.raises(ConfigError, match=why):
            revoke_token(file.path, wrong, NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["auth.toml"]


def test_edits_of_a_broken_file_or_for_a_stranger_change_nothing(tmp_path: Path) -> None:
    file = AuthFile(tmp_path)
    with pytest.raises(ConfigError, match="there is no user 'who'; known: any, nobody"):
        create_token(file.path, "who", NOW, None, "")
    with pytest.raises(ConfigError, match="printable"):
        create_token(file.path, "shop", NOW, None, "a\nb")
    assert file.path.read_text() == AUTH
    file.write("[users.u]\nroles = ['x']\n")
    with pytest.raises(ConfigError, match="line 2"):
        create_token(file.path, "u", NOW, None, "")


ID = "aaaaaaaaaaaa"


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic abc", "Bearer a.b", f"Bearer {ID}", f"Bearer {ID}." + "x" * 500],
)
def test_headers_that_are_no_token(header: str) -> None:
    assert split_token(header) is None
