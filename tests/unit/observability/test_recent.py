"""What the status page may show of the log."""

import logging

import structlog

from replcache.observability.logs import get_logger, setup_logs
from replcache.observability.recent import RecentEvents


def test_own_events_from_info_up_are_kept_and_bounded() -> None:
    recent = RecentEvents(kept=3)
    before = structlog.get_config()
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        setup_logs("DEBUG", recent=recent)
        log = get_logger("replcache.raft")
        log.debug("request", key="secret")
        logging.getLogger("aiohttp").warning("somebody else")
        for number in range(5):
            log.info("peer_connected", peer=f"n{number}", node="n1")
    finally:
        structlog.configure(**before)
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
    events = recent.newest(10)
    assert [(event.number, event.event, event.text) for event in events] == [
        (3, "peer_connected", "peer=n2"),
        (4, "peer_connected", "peer=n3"),
        (5, "peer_connected", "peer=n4"),
    ]
    assert events[0].at.endswith("Z")
    assert recent.newest(1) == events[-1:]
