"""docs/client.md: every Python block is executed, in order, against a real server of this process."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replcache import Client
from tests.helpers.client_driver import ServerThread

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "client.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^## ([^\n]+)\n|^```python\n(.*?)^```", PAGE, flags=re.S | re.M)
ADDRESSES = "127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403"


def sections() -> Iterator[tuple[str, str]]:
    title = "start"
    for heading, block in BLOCKS:
        title = heading or title
        if block:
            yield title, block


@pytest.fixture(scope="module")
def names() -> Iterator[dict[str, Any]]:
    """What the blocks share, as in one session of a reader."""
    server = ServerThread()
    with Client(server.url) as cache:
        yield {"cache": cache, "url": server.url, "__name__": "docs"}
    server.close()


@pytest.mark.parametrize(("title", "block"), sections(), ids=[title for title, _ in sections()])
def test_block(title: str, block: str, names: dict[str, Any]) -> None:
    cache = names["cache"]
    exec(compile(block.replace(ADDRESSES, names["url"]), f"docs/client.md, {title}", "exec"), names)
    # The first block makes a client of its own by that name.
    names["cache"] = cache
    assert "7401" in block or "cache" in block


def test_every_call_is_on_some_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md")))
    missing = [name for name in dir(Client) if not name.startswith("_") and name not in text]
    assert not missing, missing
