"""Structured logs to standard output: one wide line per unit of work, no secrets, no tokens, no personal data."""

import logging
import sys
from time import monotonic

import structlog
from typing_extensions import override

from shared.settings import LogSettings

_SECRET_WORDS = (
    "secret",
    "token",
    "password",
    "authorization",
    "cookie",
    "assertion",
    "code_verifier",
    "state",
    "code",
)


def configure(settings: LogSettings, *, service: str) -> None:
    """Send structlog's and the standard library's records through one pipeline. Call once, from ``main``."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _name_service(service),
        structlog.processors.format_exc_info,
        _redact,
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
        if settings.format == "console"
        else structlog.processors.JSONRenderer()
    )
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(_OncePerMinute("aiokafka"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These say at INFO what our own lines say better, or hold URLs with codes and states.
    for name in ("uvicorn.access", "httpx", "httpcore", "aiokafka", "faststream", "msal", "pymongo", "urllib3"):
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    # Says "Auto create topics is disabled" at every start, which is how it must be.
    logging.getLogger("faststream").setLevel(max(level, logging.ERROR))


class _OncePerMinute(logging.Filter):
    """Passes a library's message once a minute: with its broker down, aiokafka repeats itself many times a second."""

    def __init__(self, library: str) -> None:
        super().__init__()
        self._library = library
        self._said: dict[tuple[str, str], float] = {}

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] != self._library:
            return True
        message, now = (record.name, str(record.msg)), monotonic()
        if now - self._said.get(message, float("-inf")) < 60.0:
            return False
        self._said[message] = now
        return True


def _name_service(service: str) -> structlog.typing.Processor:
    def add(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = service
        return event

    return add


def _redact(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A second line of defence: a field whose name says secret never shows its value."""
    for name in event:
        if name in _SECRET_WORDS or name.endswith(("_secret", "_token", "_password")):
            event[name] = "[redacted]"
    return event
