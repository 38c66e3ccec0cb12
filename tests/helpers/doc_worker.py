"""A process that runs the examples of documents against one cluster, for tests/e2e/test_doc_examples.py.

Reads one JSON object a line, {"kind": "python" | "replcache" | "new page", "text": ..., "name": ...}, and
answers each with one line {"error": "" | what went wrong}. One process for all saves their start-up;
names live on from one Python block of a page to the next, as a reader expects.

Each Python block finds `cache`: a Client, or an AsyncClient when the block awaits something at its top level.
"""

import ast
import asyncio
import inspect
import json
import os
import shlex
import sys
import traceback
from collections.abc import Awaitable
from typing import Any

from replcache import AsyncClient, Client
from replcache.cli.main import app


class Page:
    """Runs the blocks of one page."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)

    def python(self, text: str, name: str) -> None:
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(text, name, "exec", flags=flags, dont_inherit=True)
        awaits = bool(code.co_flags & inspect.CO_COROUTINE)
        client: Client | AsyncClient = AsyncClient(self.url) if awaits else Client(self.url)
        self.names["cache"] = client
        try:
            result = eval(code, self.names)
            if awaits:
                assert isinstance(result, Awaitable)
                self.loop.run_until_complete(result)
        finally:
            if isinstance(client, AsyncClient):
                self.loop.run_until_complete(client.close())
            else:
                client.close()

    def replcache(self, text: str) -> None:
        """Each line a command; refused ones (exit code 1) count as answers only when the line says so."""
        for line in filter(None, (line.strip() for line in text.splitlines())):
            arguments = shlex.split(line, comments=True)[1:]
            if not arguments:
                continue
            try:
                app(args=arguments, prog_name="replcache")
            except SystemExit as ended:
                if ended.code not in (0, None):
                    raise AssertionError(f"`{line}` ended with exit code {ended.code}") from ended

    def close(self) -> None:
        self.loop.close()


def serve(url: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    # What examples print must not look like an answer.
    os.dup2(2, 1)
    page = Page(url)
    for line in sys.stdin:
        job = json.loads(line)
        error = ""
        try:
            if job["kind"] == "new page":
                page.close()
                page = Page(url)
                with Client(url) as client:
                    # What another page left is not what a reader of this one has.
                    client.delete_range(b"\0")
            elif job["kind"] == "python":
                page.python(job["text"], job["name"])
            else:
                page.replcache(job["text"])
        except BaseException:  # noqa: BLE001 - whatever an example does wrong is the answer
            error = traceback.format_exc(limit=-4)
        answers.write(json.dumps({"error": error}) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(sys.argv[1])
