"""Extra DNS records from a file that other programs write; clients are told when it changes.

The file is a JSON list of `{"name", "type", "value"}`. While it cannot be used, the records before stay.
"""

from __future__ import annotations

import asyncio
import logging
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import msgspec

from warren_control.changes import Change
from warren_control.hub import Hub
from warren_control.metrics import ControlMetrics
from warren_control.names import is_domain
from warren_control.netmap.builder import NetmapBuilder
from warren_wire.control.messages import DNSConfig, DNSRecord

logger = logging.getLogger(__name__)

WATCH_SECONDS: Final = 1.0
MAX_FILE_BYTES: Final = 4 * 1024 * 1024
MAX_RECORDS: Final = 10_000


class Record(msgspec.Struct):
    """A record as the file has it."""

    name: str
    value: str
    type: str = ""


def parse(data: bytes) -> tuple[DNSRecord, ...]:
    """The records, in canonical order; ValueError for a file that is not entirely usable."""
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"the file is larger than {MAX_FILE_BYTES} bytes")
    records = msgspec.json.decode(data, type=list[Record])
    if len(records) > MAX_RECORDS:
        raise ValueError(f"there are more than {MAX_RECORDS} records")
    found = set()
    for record in records:
        name = record.name.lower().rstrip(".")
        kind = "AAAA" if ip_address(record.value).version == 6 else "A"
        if record.type.upper() not in ("", kind):
            raise ValueError(f"{name[:64]}: a record of type {record.type[:8]} cannot be {record.value}")
        if not is_domain(name.replace("_", "-")):
            raise ValueError(f"{name[:64]!r} is not a name")
        found.add((name, kind, record.value))
    return tuple(DNSRecord(name=name, type=kind, value=value) for name, kind, value in sorted(found))


class RecordsFile:
    """The DNS settings as they are now: the configured ones and the file's records."""

    def __init__(
        self,
        base: DNSConfig,
        file: Path | None,
        builder: NetmapBuilder,
        hub: Hub,
        metrics: ControlMetrics,
    ) -> None:
        self.dns = base
        self._base = base
        self._file = file
        self._builder = builder
        self._hub = hub
        self._metrics = metrics
        self._seen: tuple[int, int, int] | None = None
        self.look()

    def look(self) -> None:
        """Reads the file if it is another than before."""
        if self._file is None:
            return
        try:
            about = self._file.stat()
            seen = (about.st_mtime_ns, about.st_size, about.st_ino)
            if seen == self._seen:
                return
            self._seen = seen
            records = parse(self._file.read_bytes())
        except (OSError, ValueError) as error:
            if self._seen != (0, 0, 0):
                self._metrics.record_file_failures.inc()
                logger.warning("extra DNS records not read", extra={"reason": str(error)})
            if isinstance(error, OSError):
                self._seen = (0, 0, 0)
            return
        dns = msgspec.structs.replace(
            self._base, extra_records=(*(self._base.extra_records or ()), *records) or None
        )
        if dns != self.dns:
            self.dns = dns
            self._builder.set_dns(dns)
            self._hub.publish(Change(dns=True))
            logger.info("extra DNS records changed", extra={"records": len(records)})

    async def watch(self) -> None:
        """Looks every second: cheap, and true on every file system and for files swapped by rename."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self.look()
