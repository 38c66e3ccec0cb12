"""POST /fault: what came late, because its node was paused, undoes nothing that was asked for after it."""

import json
from types import SimpleNamespace
from typing import Any, cast

from aiohttp import web

from replcache.raft.fault_disk import DiskFaults
from replcache.raft.node import RaftNode
from replcache.server.fault_page import FaultPage


class Links:
    """What the page needs of a transport."""

    def __init__(self) -> None:
        self.blocked: dict[str, str] = {}

    def block(self, peer: str, direction: str) -> None:
        self.blocked[peer] = direction

    def unblock(self, peer: str) -> None:
        self.blocked.pop(peer, None)


class Posted:
    def __init__(self, body: dict[str, object]) -> None:
        self._body = body

    async def text(self) -> str:
        return json.dumps(self._body)


async def post(page: FaultPage, **body: object) -> int:
    response = await page(cast(web.Request, Posted(body)))
    return response.status


def page_and_links() -> tuple[FaultPage, Links, DiskFaults]:
    links, disk = Links(), DiskFaults()
    members = [SimpleNamespace(name=name) for name in ("n1", "n2", "n3")]
    node: Any = SimpleNamespace(transport=links, config=SimpleNamespace(members=members))
    return FaultPage(cast(RaftNode, node), disk), links, disk


async def test_a_cut_that_comes_after_its_heal_is_refused() -> None:
    page, links, _ = page_and_links()
    assert await post(page, block=[["n2", "both"]], order=1) == 200
    assert links.blocked == {"n2": "both"}
    assert await post(page, block=[], order=3) == 200
    assert await post(page, block=[["n2", "both"], ["n3", "both"]], order=2) == 409
    assert links.blocked == {}


async def test_without_an_order_the_last_one_holds() -> None:
    page, links, disk = page_and_links()
    assert await post(page, block=[["n2", "in"]], order=5) == 200
    assert await post(page, block=[["n3", "out"]], sync_delay_s=0.5) == 200
    assert (links.blocked, disk.sync_delay_s) == ({"n3": "out"}, 0.5)


async def test_what_is_refused_for_its_content_counts_for_nothing() -> None:
    page, links, _ = page_and_links()
    assert await post(page, block=[["n2", "sideways"]], order=9) == 400
    assert await post(page, colour="red", order=9) == 400
    assert await post(page, block=[["n2", "both"]], order=8) == 200
    assert links.blocked == {"n2": "both"}
