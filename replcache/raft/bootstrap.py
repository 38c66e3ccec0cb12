"""The first start of a cluster: nobody votes before everybody has been heard.

A node with an empty disk can't know whether it is new or has lost its disk. So it says Hello with its
incarnation and decides only from what the others say (hazard H8):

- all configured members were heard, and every one is as fresh as this node: the configuration with all their
  incarnations is the first one, the same on each node;
- a member was started before with a configuration that holds this node's incarnation: take that one;
- a member was started before without this incarnation: this node's disk was lost (or it is new). It waits
  until the leader takes it in as a learner.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from replcache.raft.membership import Configuration
from replcache.raft.messages import Hello
from replcache.raft.port import Member


def decide(
    name: str,
    incarnation: int,
    configured: Sequence[Member],
    heard: Mapping[str, Hello],
    *,
    may_found: bool = True,
) -> Configuration | None:
    """The bootstrap configuration, or None while it can't be known.

    Args:
        heard: last Hello of each other member.
        may_found: False for a node that was told to join a cluster that exists.
    """
    started = [hello.bootstrap for hello in heard.values() if hello.bootstrap is not None]
    for members in started:
        if any(m.name == name and m.incarnation == incarnation for m in members):
            return tuple(members)
    if started or not may_found:
        return None
    others = [m.name for m in configured if m.name != name]
    if any(other not in heard for other in others):
        return None
    known = {other: heard[other].incarnation for other in others} | {name: incarnation}
    ordered = sorted(configured, key=lambda m: m.name)
    return tuple(replace(m, incarnation=known[m.name], voter=True, promote=False) for m in ordered)
