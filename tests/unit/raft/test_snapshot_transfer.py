"""The pace of a snapshot transfer, on a leader that is moved by hand."""

import pathlib

from replcache.raft.messages import SnapshotReply
from replcache.raft.snapshot_transfer import RESEND_HEARTBEATS, SnapshotInfo, SnapshotSender
from tests.helpers.engine_net import EngineNet, NoSnapshots

CHUNK = 512 * 1024


class OneSnapshot(NoSnapshots):
    info = SnapshotInfo(index=1, term=1, size=4 * CHUNK)

    def latest(self) -> SnapshotInfo | None:
        return self.info

    def read(self, info: SnapshotInfo, offset: int, size: int) -> bytes | None:
        return bytes(size)


def test_a_receiver_without_room_is_not_flooded(tmp_path: pathlib.Path) -> None:
    """It answers each chunk with the offset that it wants: the beginning, again and again."""
    net = EngineNet(str(tmp_path))
    leader = net.elect("a")
    net.deliver_all()
    sender = SnapshotSender(leader, OneSnapshot())
    sender.send_to("b")
    info = OneSnapshot.info

    def answer(offset: int) -> None:
        sequence = sender._sending["b"].sequence
        sender.on_reply("b", SnapshotReply(leader.term, sequence, info.index, info.term, offset))

    answer(CHUNK)
    assert sender.chunks_sent == 2, "what was taken is followed at once"
    for _ in range(10):
        answer(0)
    assert sender.chunks_sent == 2
    net.clock.at += leader.config.heartbeat_s * RESEND_HEARTBEATS
    sender.send_to("b")
    assert sender.chunks_sent == 3
    answer(2 * CHUNK)
    assert sender.chunks_sent == 4, "a leader that does not know what is there already goes on behind it"
