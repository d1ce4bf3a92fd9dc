"""One line per unit of work on standard error: JSON for machines, or text for people."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal


class _Formatter(logging.Formatter):
    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """The record with its fields."""
        fields: dict[str, object] = dict(getattr(record, "fields", {}))
        error = self.formatException(record.exc_info) if record.exc_info else None
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        if self._as_json:
            line = {"timestamp": when, "level": record.levelname.lower(), "event": record.getMessage(), **fields}
            return json.dumps(line | ({"exception": error} if error else {}), default=str)
        text = " ".join(f"{name}={value}" for name, value in fields.items())
        return f"{when} {record.levelname.lower():7} {record.getMessage()} {text}".rstrip() + (
            f"\n{error}" if error else ""
        )


def configure(level: Literal["debug", "info", "warning", "error"], style: Literal["json", "console"]) -> None:
    """Sets up logging for the process; uvicorn's own access log, which holds query strings, stays off."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(as_json=style == "json"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel("WARNING")
    logging.getLogger("python_multipart").setLevel("WARNING")
