"""Logs: structlog set up once for a process, JSON or console lines on stderr.

Event name first, then key=value. State changes are INFO, single requests are not logged, keys and values of
users never. Records of the standard library's loggers (grpc, aiohttp, the Raft library) go through the same
renderer.
"""

import logging
import logging.handlers
import sys
from pathlib import Path
from typing import Literal, TextIO

import structlog

from replcache.observability.recent import RecentEvents

# The logger of administrative calls (server/security/audit.py).
AUDIT = "replcache.audit"
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
    shared = _shared_processors()
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
    handler.setFormatter(_formatter(renderer, shared))
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


def setup_audit(path: Path | None) -> None:
    """Where the audit log goes: None: among the other lines; a file: JSON lines, whatever the others are.

    The level of the other logs does not count. The file is opened again when it was renamed (logrotate).

    Raises:
        OSError: the file can't be opened.
    """
    logger = logging.getLogger(AUDIT)
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.INFO)
    logger.propagate = path is None
    if path is not None:
        writer = logging.handlers.WatchedFileHandler(path, encoding="utf-8")
        writer.setFormatter(_formatter([structlog.processors.JSONRenderer()], _shared_processors()))
        logger.addHandler(writer)


def _shared_processors() -> list[structlog.typing.Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _formatter(
    renderer: list[structlog.typing.Processor], foreign: list[structlog.typing.Processor]
) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=foreign,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger with the module's name; usable before setup_logs (then with structlog's defaults)."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
