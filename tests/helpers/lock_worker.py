"""A process with several clients that do critical sections under one lock (for tests/fault/test_locks.py).

Usage: python -m tests.helpers.lock_worker URL THREADS SECTIONS TTL
Writes one line an event: "try TOKEN", "ok TOKEN", "refused TOKEN", "unknown TOKEN", "lost"; ends with "end".
"""

import sys
import threading

from replcache.client import Client
from replcache.errors import FenceRejected, LockLost, LockTimeout, OutcomeUnknown, ReplcacheError

LOCK = "section"
_say_guard = threading.Lock()


def say(*words: object) -> None:
    with _say_guard:
        print(*words, flush=True)


def section(client: Client, ttl: str) -> bool:
    """One critical section: a read-modify-write of the counter and a line in the log, both fenced."""
    token = 0
    try:
        with client.lock(LOCK, ttl=ttl, wait="60s") as lock:
            token = lock.token
            value = int(client.get_value("counter"))
            say("try", token)
            with client.batch(atomic=True) as batch:
                batch.set("counter", value + 1, fence=lock)
                batch.update("log", append=b"%d\n" % token, fence=lock)
            say("ok", token)
            return True
    except FenceRejected:
        say("refused", token)
    except (LockLost, LockTimeout):
        say("lost")
    except OutcomeUnknown:
        say("unknown", token)
    return False


def client_loop(url: str, sections: int, ttl: str) -> None:
    with Client(url, timeout="20s") as client:
        done = 0
        while done < sections:
            try:
                done += section(client, ttl)
            except ReplcacheError as error:
                say("error", type(error).__name__, str(error).replace("\n", " "))


def main() -> None:
    url, threads, sections, ttl = sys.argv[1:5]
    workers = [
        threading.Thread(target=client_loop, args=(url, int(sections), ttl)) for _ in range(int(threads))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    say("end")


if __name__ == "__main__":
    main()
