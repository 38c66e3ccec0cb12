"""POST /fault: cuts peer links and spoils the disk of this node, for fault drills (config: fault_injection).

The body is a JSON object; what it names is set, the rest stays:
    {"block": [["n2", "out"], ...]}     the whole list of cut links (peer, "in" | "out" | "both"); [] heals
    {"flip_bit_of": "key"}              one bit of the key's value changes in this node's memory only
    {"sync_delay_s": 0.2, "fail_syncs": 1, "is_full": true}     see raft/fault_disk.py
    {"order": 7}                        with any of them: refused (409) when a higher one was here before
A paused node reads a request when it is resumed, and its sender may have given up and healed it by then.
"""

import json
from typing import Any

from aiohttp import web

from replcache.raft.fault_disk import DiskFaults
from replcache.raft.node import RaftNode
from replcache.statemachine.entries import VALUE

_DISK_FIELDS = {"sync_delay_s": float, "fail_syncs": int, "is_full": bool, "skip_syncs": bool}


class FaultPage:
    """The handler of POST /fault."""

    def __init__(self, node: RaftNode, disk: DiskFaults) -> None:
        self._node = node
        self._disk = disk
        self._order = 0

    async def __call__(self, request: web.Request) -> web.Response:
        try:
            wanted = json.loads(await request.text())
            order = int(wanted.pop("order", self._order))
            if order < self._order:
                return web.json_response({"error": "a later request was here before"}, status=409)
            self._apply(wanted)
            self._order = order
        except (ValueError, TypeError, AttributeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"ok": True})

    def _apply(self, wanted: dict[str, Any]) -> None:
        unknown = set(wanted) - {"block", "flip_bit_of", *_DISK_FIELDS}
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        for name, kind in _DISK_FIELDS.items():
            if name in wanted:
                setattr(self._disk, name, kind(wanted[name]))
        if "flip_bit_of" in wanted:
            rows, key = self._node.machine.store.rows, str(wanted["flip_bit_of"]).encode()
            if key not in rows or not rows[key][VALUE]:
                raise ValueError(f"there is no value at {key!r}")
            value = rows[key][VALUE]
            rows[key] = (bytes([value[0] ^ 1]) + value[1:], *rows[key][1:])
        if "block" in wanted:
            transport = self._node.transport
            for member in self._node.config.members:
                transport.unblock(member.name)
            for peer, direction in wanted["block"]:
                if direction not in ("in", "out", "both"):
                    raise ValueError(f"direction {direction!r} is not in, out or both")
                transport.block(peer, direction)
