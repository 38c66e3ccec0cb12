"""Speed of the state machine alone: what applying a log costs, and how long single calls take.

    python benchmarks/statemachine.py [--keys 1000000]

CPU time of this process, so that a busy machine disturbs less; still compare only runs from one machine.
"""

import argparse
import gc
import random
import time
from collections.abc import Callable, Iterable

from replcache.statemachine import codec
from replcache.statemachine.commands import (
    Command,
    Delete,
    Get,
    Group,
    Increment,
    InvalidateTags,
    Op,
    Set,
    SetMany,
)
from replcache.statemachine.machine import StateMachine

BATCH = 256
VALUE = b"v" * 100
clock = time.process_time


class Log:
    """Makes payloads with their own sequence numbers."""

    def __init__(self) -> None:
        self.sequence = 0

    def entry(self, *commands: Command) -> bytes:
        self.sequence += 1
        group = Group("n1", 1, self.sequence, self.sequence, commands)
        return codec.encode_entry(self.sequence, [codec.encode_group(group)])


def apply_all(machine: StateMachine, payloads: Iterable[bytes]) -> list[float]:
    """Seconds of each call, ascending."""
    taken = []
    for payload in payloads:
        start = clock()
        machine.apply(machine.applied_index + 1, payload)
        taken.append(clock() - start)
    return sorted(taken)


def report(what: str, taken: list[float], operations: int) -> None:
    mean = sum(taken) / len(taken) / operations * 1e6
    median = taken[len(taken) // 2] / operations * 1e6
    print(f"{what:44} {mean:7.2f} µs mean {median:7.2f} µs median  longest call {taken[-1] * 1e3:6.1f} ms")


def columns(log: Log, source: random.Random, keys: int, count: int, ttl_ms: int = 0) -> list[bytes]:
    return [
        log.entry(
            Command(
                set_many=SetMany(
                    [b"key:%09d" % source.randrange(keys) for _ in range(BATCH)], [VALUE] * BATCH, "", ttl_ms
                )
            )
        )
        for _ in range(count)
    ]


def measure_columns(log: Log, source: random.Random) -> None:
    for what, ttl_ms in (("set in columns, 100,000 keys", 0), ("the same with a ttl", 60_000)):
        machine = StateMachine()
        apply_all(machine, columns(log, source, 100_000, 400, ttl_ms))
        report(what, apply_all(machine, columns(log, source, 100_000, 400, ttl_ms)), BATCH)


def measure_operations(log: Log, source: random.Random) -> None:
    makers: list[tuple[str, Callable[[int], Op]]] = [
        ("set", lambda n: Set(b"key:%d" % n, VALUE)),
        ("set with ttl and tag", lambda n: Set(b"key:%d" % n, VALUE, ttl_ms=1000 + n, tags=("t",))),
        ("increment", lambda n: Increment(b"n:%d" % n, 1)),
        ("get in the log", lambda n: Get(b"key:%d" % n)),
        ("delete", lambda n: Delete(b"key:%d" % n)),
    ]
    machine = StateMachine()
    for name, make in makers:
        payloads = [
            log.entry(*(Command(ops=(make(source.randrange(10_000)),)) for _ in range(BATCH)))
            for _ in range(50)
        ]
        report(f"{name}, a command each", apply_all(machine, payloads), BATCH)


def once(what: str, call: Callable[[], object]) -> None:
    start = clock()
    call()
    print(f"{what:44} {(clock() - start) * 1e3:7.2f} ms")


def measure_large(log: Log, source: random.Random, keys: int) -> None:
    machine = StateMachine()
    gc.freeze()
    report(f"new keys up to {keys:,}", apply_all(machine, columns(log, source, 10**9, keys // BATCH)), BATCH)
    once("begin_snapshot", lambda: machine.begin_snapshot().close())
    chunks: list[bytes] = []
    once("all chunks of a snapshot", lambda: chunks.extend(machine.begin_snapshot().chunks()))
    once("restore", lambda: StateMachine.restore(chunks))
    once("scan of 100", lambda: machine.scan_page(b"key:5", b"", 100))
    once("scan of 1,000", lambda: machine.scan_page(b"key:7", b"", 1000))
    view = machine.begin_snapshot()
    report("new keys while a snapshot is read", apply_all(machine, columns(log, source, 10**9, 200)), BATCH)
    view.close()
    tagged = [
        log.entry(Command(ops=tuple(Set(b"t:%d" % n, b"", tags=("t",)) for n in range(start, start + 1000))))
        for start in range(0, 100_000, 1000)
    ]
    apply_all(machine, tagged)
    report(
        "100,000 entries of a tag, invalidated",
        apply_all(machine, [log.entry(Command(ops=(InvalidateTags(("t",)),)))]),
        1,
    )
    ticks = [codec.encode_entry(log.sequence, []) for _ in range(60)]
    report("removing 2,000 of them", apply_all(machine, ticks)[20:], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    arguments = parser.parse_args()
    log, source = Log(), random.Random(1)
    measure_columns(log, source)
    measure_operations(log, source)
    measure_large(log, source, arguments.keys)


if __name__ == "__main__":
    main()
