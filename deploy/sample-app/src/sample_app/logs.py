"""Log lines on standard error, and one access line per request of its own routes."""

import json
import logging
import sys
import time
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sample_app.settings import LogSettings

_logger = logging.getLogger("sample_app.access")
_PROBES = frozenset({"/livez", "/readyz"})


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _ConsoleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in getattr(record, "fields", {}).items())
        time_of_day = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        line = f"{time_of_day} {record.levelname.lower():<7} {record.getMessage()} {fields}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(settings: LogSettings) -> None:
    """Send every logger of the process to standard error, in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if settings.format == "json" else _ConsoleFormatter())
    logging.basicConfig(handlers=[handler], level=settings.level.upper(), force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line per call to the notifier says nothing new


class AccessLog:
    """ASGI middleware: method, route template, status and duration; codes and states in URLs stay out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request and write its line, whatever became of it."""
        if scope["type"] != "http" or scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            route = scope.get("route")
            fields = {
                "method": scope["method"],
                "route": getattr(route, "path", "(none)"),
                "status": status,
                "duration_ms": round((time.perf_counter() - started) * 1000, 1),
            }
            _logger.info("http request", extra={"fields": fields})
