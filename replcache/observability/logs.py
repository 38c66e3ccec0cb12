"""Logs: structlog set up once for a process, JSON or console lines on stderr.

Event name first, then key=value. State changes are INFO, single requests DEBUG. Keys and values of users are
never logged above DEBUG. Records of the standard library's loggers (grpc, aiohttp, the Raft library) go
through the same renderer.
"""

import logging
import sys
from typing import Literal, TextIO

import structlog

from replcache.observability.recent import RecentEvents

LogFormat = Literal["json", "console"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def setup_logs(
    level: LogLevel = "INFO",
    form: LogFormat = "console",
    stream: TextIO | None = None,
    recent: RecentEvents | None = None,
) -> None:
    """Configures structlog and the standard library's root logger.

    Args:
        stream: where lines go; None: stderr.
        recent: keeps the newest events, too.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if recent is not None:
        shared.append(recent.remember)
    renderer: list[structlog.typing.Processor]
    if form == "json":
        renderer = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        target = stream or sys.stderr
        # Plain tracebacks: the rich ones print local variables, and with them users' keys and values.
        renderer = [
            structlog.dev.ConsoleRenderer(
                colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger with the module's name; usable before setup_logs (then with structlog's defaults)."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
