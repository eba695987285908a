"""Set-up of the standard logging of a service: JSON lines in a cluster, readable text on a terminal.

A record is a constant sentence; what varies goes into `extra` and comes out as fields.
"""

from __future__ import annotations

import datetime
import json as json_codec
import logging
import sys
from typing import Final, TextIO

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}


def setup(level: str = "INFO", json: bool | None = None, stream: TextIO | None = None) -> None:
    """Send every log record to `stream` (stderr). `json=None` chooses text on a terminal, JSON elsewhere."""
    target = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(target)
    as_json = not target.isatty() if json is None else json
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # One line per request is the access log of a web server, not a lasting change.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _timestamp(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in _fields(record).items():
            line.setdefault(name, value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json_codec.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """`time LEVEL sentence name=value ...`."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_quoted(value)}" for name, value in _fields(record).items())
        line = f"{_timestamp(record)} {record.levelname:<7} {record.getMessage()}{fields}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created, tz=datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _quoted(value: object) -> str:
    text = str(value)
    # Fields may come from the wire: quoting keeps one record on one line.
    return (
        text
        if text.isprintable() and text and " " not in text and '"' not in text
        else json_codec.dumps(text)
    )
