"""Filling a cold cache at a limited rate, and going on where a killed run stopped.

    client.prewarm(load_user, keys, rate="2k/s", prefix="user:", ttl="1h", state="prewarm.state")

Keys are taken in chunks. For each chunk: one log entry with placeholders (fill.py) for the keys that are
missing, the loads, `concurrency` at a time, one log entry with the fills. So live traffic wins every race: a
key that is there already, is being loaded, or is written or invalidated meanwhile, is left alone. With a
source of pairs there is nothing to load: values are set where the key is missing.

The state file says how many keys of the list are done; it is replaced after each chunk. A run that is killed
repeats at most one chunk, which does nothing to what it has stored.
"""

import asyncio
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from replcache.client import convert
from replcache.client.aio import AsyncClient
from replcache.client.base import Prepared
from replcache.client.durations import Duration
from replcache.client.requests import key_bytes, set_operation
from replcache.client.types import SetResult
from replcache.errors import ConditionFailed, InvalidRequest, ReplcacheError
from replcache.patterns.fill import FILL_CONTENT_TYPE, AsyncFills, FillTicket
from replcache.patterns.rate import Pace, parse_rate
from replcache.patterns.source import Loader, attempt, try_source

_CHUNK_MAX = 500
_MARK_BYTES = 16
_LOGGER = logging.getLogger("replcache.patterns")


@dataclass(frozen=True, slots=True)
class PrewarmProgress:
    """done: keys of the list that were dealt with, `skipped` of them by an earlier run (state file).

    stored; present: were there already, or came meanwhile; absent: the loader knows no such row; failed: the
    loader raised, key or value can't be stored, or the cluster refused; `error` is the last such error.
    """

    done: int = 0
    skipped: int = 0
    stored: int = 0
    present: int = 0
    absent: int = 0
    failed: int = 0
    seconds: float = 0.0
    error: str = ""

    @property
    def rate(self) -> float:
        """Keys a second of this run."""
        return (self.done - self.skipped) / self.seconds if self.seconds else 0.0


ProgressListener = Callable[[PrewarmProgress], object]


@dataclass(frozen=True, slots=True)
class _State:
    """What the state file holds: keys done, and the last of them, to notice another list."""

    path: Path | None
    done: int = 0
    last: str = ""

    @classmethod
    def read(cls, path: "str | os.PathLike[str] | None") -> "_State":
        if path is None:
            return cls(None)
        file = Path(path)
        try:
            fields = json.loads(file.read_text(encoding="utf-8"))
            return cls(file, int(fields["done"]), str(fields["last"]))
        except FileNotFoundError:
            return cls(file)
        except (ValueError, KeyError, TypeError) as err:
            raise InvalidRequest(f"{file} is no state of a prewarm: {err}", field="state") from err

    def save(self) -> None:
        if self.path is None:
            return
        temporary = self.path.with_name(self.path.name + ".new")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({"done": self.done, "last": self.last}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)


@dataclass(frozen=True, slots=True)
class PrewarmOptions:
    """See AsyncThroughCalls.prewarm. Exactly one of keys (with a loader) and pairs is given."""

    loader: Loader | None
    keys: Iterable[str]
    pairs: Iterable[tuple[str, Any]] | None
    rate: float
    concurrency: int
    progress: ProgressListener | None
    state: "str | os.PathLike[str] | None"
    prefix: str
    ttl: Duration | None
    tags: tuple[str, ...]
    lease: Duration

    @classmethod
    def checked(
        cls,
        source: "Loader | Iterable[tuple[str, Any]]",
        keys: Iterable[str] | None,
        *,
        rate: str | float | None,
        concurrency: int,
        progress: "bool | ProgressListener",
        state: "str | os.PathLike[str] | None",
        prefix: str,
        ttl: Duration | None,
        tags: Iterable[str],
        lease: Duration,
    ) -> "PrewarmOptions":
        if callable(source) == (keys is None):
            raise InvalidRequest("a loader and keys, or pairs of key and value", field="keys")
        if not 1 <= concurrency <= _CHUNK_MAX:
            raise InvalidRequest(f"concurrency={concurrency}: 1 to {_CHUNK_MAX}", field="concurrency")
        listener = _log_progress if progress is True else progress
        return cls(
            source if callable(source) else None,
            keys if keys is not None else (),
            None if callable(source) else source,
            parse_rate(rate),
            concurrency,
            listener if callable(listener) else None,
            state,
            prefix,
            ttl,
            tuple(tags),
            lease,
        )

    def items(self) -> Iterator[tuple[str, Any]]:
        return iter(self.pairs) if self.pairs is not None else ((key, None) for key in self.keys)


def _log_progress(progress: PrewarmProgress) -> None:
    _LOGGER.info("prewarm: %s", progress)


async def prewarm(client: AsyncClient, options: PrewarmOptions) -> PrewarmProgress:
    """Runs to the end of the list.

    Raises:
        InvalidRequest: the state file belongs to another list.
        ReplcacheError: the cluster could not be reached; a new run with the same state file goes on.
    """
    state = _State.read(options.state)
    items = _after(options.items(), state)
    clock = client._clock
    began = clock.now()
    pace = Pace(options.rate, clock.now)
    progress = PrewarmProgress(done=state.done, skipped=state.done)
    # Several chunks a second, so that the rate is even, and enough in each to keep the loaders busy.
    size = int(max(1, min(_CHUNK_MAX, max(options.concurrency * 4, options.rate / 10))))
    while chunk := list(itertools.islice(items, size)):
        await pace.take(len(chunk))
        counted = await _warm(client, options, chunk)
        progress = replace(
            progress,
            done=progress.done + len(chunk),
            stored=progress.stored + counted["stored"],
            present=progress.present + counted["present"],
            absent=progress.absent + counted["absent"],
            failed=progress.failed + counted["failed"],
            error=counted["error"] or progress.error,
            seconds=clock.now() - began,
        )
        replace(state, done=progress.done, last=chunk[-1][0]).save()
        if options.progress is not None:
            options.progress(progress)
    return progress


def _after(items: Iterator[tuple[str, Any]], state: _State) -> Iterator[tuple[str, Any]]:
    """What the state leaves to do."""
    last = None
    for item in itertools.islice(items, state.done):
        last = item
    if state.done and (last is None or last[0] != state.last):
        raise InvalidRequest(
            f"{state.path} is the state of another list: its key {state.done} is {state.last!r}, here it is "
            f"{None if last is None else last[0]!r}",
            field="state",
        )
    return items


async def _warm(client: AsyncClient, options: PrewarmOptions, chunk: list[tuple[str, Any]]) -> dict[str, Any]:
    counted: dict[str, Any] = {"stored": 0, "present": 0, "absent": 0, "failed": 0, "error": ""}
    if options.loader is None:
        operations: list[Prepared] = []
        for key, value in chunk:
            name = attempt(_name, options, key)
            encoded = attempt(client._encode, value)
            error = name.error or encoded.error
            if error is not None:
                _count_failed(counted, key, error)
            else:
                operations.append(_setting(options, name.value, encoded.value, nx=True))
        _count(counted, await _send(client, operations))
        return counted
    tickets = await _place(client, options, [key for key, _ in chunk], counted)
    if not tickets:
        return counted
    loading = asyncio.Semaphore(options.concurrency)
    loader = options.loader

    async def load(key: str) -> Any:
        async with loading:
            return await try_source(loader, key)

    outcomes = await asyncio.gather(*(load(key) for key in tickets))
    fills: list[Prepared] = []
    given_back: list[FillTicket] = []
    for (key, ticket), outcome in zip(tickets.items(), outcomes, strict=True):
        encoded = outcome
        if outcome.error is None and outcome.value is not None:
            encoded = attempt(client._encode, outcome.value)
        if encoded.error is not None:
            given_back.append(ticket)
            _count_failed(counted, key, encoded.error)
        elif outcome.value is None:
            given_back.append(ticket)
            counted["absent"] += 1
        else:
            fills.append(_setting(options, ticket.key, encoded.value, mark=ticket.mark))
    _count(counted, await _send(client, fills))
    await asyncio.gather(*(AsyncFills(client).abandon_fill(ticket) for ticket in given_back))
    return counted


async def _place(
    client: AsyncClient, options: PrewarmOptions, keys: list[str], counted: dict[str, Any]
) -> dict[str, FillTicket]:
    """Placeholders for the keys that are missing."""
    tickets: dict[str, FillTicket] = {}
    distinct = dict.fromkeys(keys)
    for key in distinct:
        name = attempt(_name, options, key)
        if name.error is not None:
            _count_failed(counted, key, name.error)
        else:
            tickets[key] = FillTicket(name.value, client._rng.randbytes(_MARK_BYTES))
    placing: list[Prepared] = [
        (
            set_operation(
                ticket.key,
                ticket.mark,
                FILL_CONTENT_TYPE,
                ttl=options.lease,
                tags=options.tags,
                if_absent=True,
            ),
            convert.set_result,
        )
        for ticket in tickets.values()
    ]
    counted["present"] += len(keys) - len(distinct)
    placed: dict[str, FillTicket] = {}
    for (key, ticket), outcome in zip(tickets.items(), await _send(client, placing), strict=True):
        if isinstance(outcome, SetResult):
            placed[key] = ticket
        else:
            _count(counted, [outcome])
    return placed


def _name(options: PrewarmOptions, key: str) -> bytes:
    return key_bytes(options.prefix + key)


def _setting(
    options: PrewarmOptions,
    name: bytes,
    encoded: tuple[bytes, str],
    *,
    nx: bool = False,
    mark: bytes | None = None,
) -> Prepared:
    operation = set_operation(
        name,
        *encoded,
        ttl=options.ttl,
        tags=options.tags,
        if_absent=nx,
        if_value=mark,
    )
    return operation, convert.set_result


def _count_failed(counted: dict[str, Any], key: str, error: Exception) -> None:
    counted["failed"] += 1
    counted["error"] = f"{key}: {type(error).__name__}: {error}"


async def _send(client: AsyncClient, operations: list[Prepared]) -> list[Any]:
    """In one log entry, or a few when the values are large."""
    outcomes: list[Any] = []
    part: list[Prepared] = []
    size = 0
    for operation in operations:
        part.append(operation)
        size += operation[0].ByteSize()
        if size >= _BATCH_BYTES:
            outcomes += await client._send_batch(part, False, client.settings.timeout_s)
            part, size = [], 0
    if part:
        outcomes += await client._send_batch(part, False, client.settings.timeout_s)
    return outcomes


def _count(counted: dict[str, Any], outcomes: list[Any]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, SetResult):
            counted["stored"] += 1
        elif isinstance(outcome, ConditionFailed):
            counted["present"] += 1
        elif isinstance(outcome, ReplcacheError):
            counted["failed"] += 1
            counted["error"] = f"{outcome.reason}: {outcome}"


# A value is at most 1 MiB and a batch 3 MiB: a part that reaches this has room for the last value.
_BATCH_BYTES = 3 * 1024 * 1024 // 2
