"""Locks whose grant is of no use to the caller any more; ordinary use is in integration/client."""

import asyncio
from typing import Any

import pytest

from replcache.errors import LockTimeout, Unavailable
from tests.helpers.virtual_cluster import VirtualCluster
from tests.helpers.virtual_loop import VirtualClock, run_virtually


@pytest.mark.parametrize("ending", ["cancelled", "error"])
def test_a_lock_whose_first_renewal_fails_is_given_back(ending: str) -> None:
    """After a long wait the grant is renewed before it is handed out; whoever goes then holds nothing."""

    async def work(clock: VirtualClock) -> None:
        cluster = VirtualCluster(clock)
        client, other = cluster.client(), cluster.client()
        renewing = asyncio.Event()

        async def renew(request: Any, deadline: Any) -> Any:
            renewing.set()
            if ending == "error":
                raise Unavailable("on purpose")
            await asyncio.Event().wait()

        holder = other.lock("job", ttl="1h")
        await holder.acquire()
        waiting = asyncio.create_task(client.lock("job", ttl="1h", wait="50m").acquire())
        await clock.sleep(2400)
        cluster.handlers["lock", "Renew"] = renew
        await holder.release()
        await renewing.wait()
        if ending == "cancelled":
            waiting.cancel()
        with pytest.raises((asyncio.CancelledError, Unavailable)):
            await waiting
        try:
            assert await other.lock("job", wait="5s").acquire()
        except LockTimeout:
            pytest.fail("nobody has the lock, and nobody gets it")
        await cluster.close()

    run_virtually(work)
