"""The status page in a browser, against a cluster that loses its leader and then the page's own node."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from replcache.client import Client
from replcache.localcluster import LocalCluster
from tests.helpers.browser import PHONE, WIDE, chromium
from tests.helpers.wait import scaled, wait_until

NEW_LEADER_WITHIN_S = 3.0
SECRET = "a value that nobody may see"


@dataclass
class Viewer:
    """One page, and what the browser complained about."""

    page: Any
    complaints: list[str] = field(default_factory=list)

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).first.inner_text())

    def roles(self) -> dict[str, str]:
        rows = self.page.locator("#members tbody tr[data-name]")
        found = rows.evaluate_all("rows => rows.map(r => [r.dataset.name, r.cells[1].textContent])")
        return dict(found)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def look_at(browser: Any, address: str, size: tuple[int, int] = WIDE) -> Viewer:
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    viewer = Viewer(page)
    page.on("pageerror", lambda error: viewer.complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            viewer.complaints.append(message.text) if "Content Security" in message.text else None
        ),
    )
    page.goto(f"http://{address}/")
    wait_until(
        lambda: len(viewer.roles()) == 3, 15, "the page shows three members", lambda: viewer.complaints
    )
    return viewer


def test_page_follows_the_leader_through_kills(cluster: LocalCluster, browser: Any) -> None:
    with Client(cluster.url, timeout="20s") as client:
        client.set("user:7", SECRET)
        for number in range(50):
            client.get(f"user:{number % 10}")
        leader = client.status().leader
        own, spare = [name for name in cluster.names if name != leader]
        viewer = look_at(browser, cluster.layout(own).http_address)
        try:
            page = viewer.page
            wait_until(lambda: viewer.text("#tile-leader") == leader, 10, "the leader is shown")
            wait_until(lambda: viewer.roles()[leader] == "leader", 10, "with its role")
            wait_until(lambda: "3 of 3" in viewer.text("#health"), 10, "all is well", viewer.roles)
            assert own in viewer.text("#watched")
            wait_until(lambda: "user:" in viewer.text("#hot"), 10, "a hot key")
            with client.lock("orders/42", ttl="30s", note="worker-1") as lock:
                wait_until(lambda: str(lock.token) in viewer.text("#locks"), 10, "the lock and its token")
                assert "worker-1" in viewer.text("#locks")
            assert SECRET not in page.content()

            # --- the leader dies ---
            killed_at = time.monotonic()
            cluster.kill(leader)
            limit_s = scaled(NEW_LEADER_WITHIN_S)
            found = wait_until(
                lambda: (shown := viewer.text("#tile-leader")) in (own, spare) and shown,
                limit_s,
                "a new leader",
            )
            took_s = time.monotonic() - killed_at
            print(f"new leader {found} shown {took_s:.2f} s after the kill of {leader}")
            wait_until(lambda: viewer.roles()[leader] == "unreachable", 5, "the dead one", viewer.roles)
            wait_until(lambda: "degraded" in viewer.text("#health"), 5, "degraded")
            wait_until(lambda: "leader changed" in viewer.text("#events"), 5, "the event")
            cluster.start([leader])
            wait_until(lambda: "3 of 3" in viewer.text("#health"), 20, "it is back", viewer.roles)

            # --- the page's own node dies ---
            cluster.kill(own)
            wait_until(lambda: page.locator("#notice").is_visible(), 8, "the page says so")
            assert f"{own} does not answer" in viewer.text("#notice")
            assert page.locator("#notice a").count() == 2
            assert viewer.text("#live-text") == "connection lost"
            cluster.start([own])
            wait_until(lambda: viewer.text("#live-text") == "live", 20, "it connects again by itself")
            wait_until(lambda: not page.locator("#notice").is_visible(), 5, "and takes the notice away")
            assert viewer.complaints == []
        finally:
            viewer.page.close()


def test_page_by_keyboard_on_a_phone_and_paused(cluster: LocalCluster, browser: Any) -> None:
    cluster.start()
    with Client(cluster.url, timeout="20s") as client:
        client.set_namespace("users-with-a-long-name", "user:", max_bytes=1 << 20, policy="lru")
        client.set("user:" + "a-long-key-without-any-space" * 5, "value")
        client.get("user:" + "another-long-key" * 9)
    viewer = look_at(browser, cluster.layout("n1").http_address, PHONE)
    page = viewer.page
    try:
        wait_until(lambda: "users-with" in viewer.text("#namespaces"), 10, "the tables are full")
        width = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert width[0] <= width[1], "the page is wider than a phone"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        reached = set()
        for _ in range(20):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        assert {"pause", "theme", "svg", "A"} <= reached
        page.locator("#chart-throughput svg").first.focus()
        wait_until(lambda: page.locator("#chart-throughput path.line").count() > 0, 10, "a line")
        page.keyboard.press("Home")
        wait_until(lambda: "ago" in viewer.text("#chart-throughput .legend"), 5, "a moment in the past")
        assert "Arrow keys" in page.locator("#chart-throughput svg").first.get_attribute("aria-label")
        page.locator("#pause").press("Enter")
        assert page.locator("#pause").get_attribute("aria-pressed") == "true"
        frozen = viewer.text("#members")
        assert viewer.text("#live-text") == "paused"
        page.locator("#pause").press("Enter")
        wait_until(lambda: viewer.text("#members") != frozen, 10, "it goes on")
        for theme in ("light", "dark"):
            page.locator("#theme").press("Enter")
            assert page.evaluate("document.documentElement.dataset.theme") == theme
        assert viewer.complaints == []
    finally:
        page.close()
