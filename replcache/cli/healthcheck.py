"""Exit 0 while this machine's node is ready to serve: the health check of containers.

Asks /readyz of the HTTP port named by the node's own settings, with the standard library only, so that it
costs little when it runs every few seconds.
"""

import ssl
import sys
import urllib.error
import urllib.request

from replcache.config import ServerConfig, load_config

TIMEOUT_S = 2.0


def readiness_url(config: ServerConfig) -> str | None:
    """None: the node has no HTTP port."""
    if config.http_listen is None:
        return None
    host, _, port = config.http_listen.rpartition(":")
    # Where a node listens on all addresses, it is asked over loopback.
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    scheme = "https" if config.tls_cert and config.http_tls else "http"
    return f"{scheme}://{host}:{port}/readyz"


def is_ready(url: str) -> bool:
    # The question is whether this process serves, not who it is: the connection never leaves the machine.
    context = ssl._create_unverified_context() if url.startswith("https") else None
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(url, timeout=TIMEOUT_S) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return False


def main() -> int:
    url = readiness_url(load_config().config)
    if url is None:
        print("http_listen is off: nothing to ask", file=sys.stderr)
        return 1
    return 0 if is_ready(url) else 1


if __name__ == "__main__":
    sys.exit(main())
