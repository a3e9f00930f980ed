"""The log files that a trail of CloudTrail writes into a bucket: ``.json.gz``, each with some hundred records.

Source: the CloudTrail user guide, "Finding your CloudTrail log files" and "CloudTrail log file examples": below the
bucket's prefix ``AWSLogs/[ORGANIZATION/]ACCOUNT/CloudTrail/REGION/YYYY/MM/DD/``, by the day of delivery.
"""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import msgspec

from registry_pipelines.errors import RegistryError
from registry_pipelines.events.cloudtrail import SOURCE, events_of_record
from registry_pipelines.oci.decoding import ready
from registry_pipelines.report.audit.model import Event, Names, Reading, plain
from registry_pipelines.stores.store import ObjectStore

MOST_BYTES = 64 << 20
"""Of a file as it is stored; CloudTrail closes one after five minutes, or some MB."""
MOST_UNPACKED = 512 << 20
AHEAD = 3
"""Files of a bucket that are on their way while another one is read."""
LATE = timedelta(days=1)
"""Files of a day still come so long after its end."""
_MARK = SOURCE.encode()


class _File(msgspec.Struct):
    records: list[msgspec.Raw] = msgspec.field(name="Records")


class CloudTrailFiles:
    """The files below ``.../CloudTrail`` of one account. regions: which; all that have files unless told. The cursor is
    a day up to which all was read, and the names of the files of later days that were."""

    def __init__(self, name: str, store: ObjectStore, *, names: Names, regions: tuple[str, ...] = ()) -> None:
        self.where, self._name, self._store, self._names = store.name, name, store, names
        self._regions = regions

    def read(self, reading: Reading, *, since: datetime, until: datetime) -> Iterator[Event]:
        """See LogSource."""
        done = set(filter(None, reading.cursor.get("files", "").split(" ")))
        first = max(since.astimezone(UTC).date(), _day(reading.cursor.get("day", "")) or date.min)
        regions = self._regions or tuple(self._store.folders(""))
        if not regions:
            reading.note("there are no log files: is the address the folder CloudTrail, above the regions?")
        keys = sorted(
            each.key
            for day in _days(first, until.astimezone(UTC).date())
            for region in regions
            for each in self._store.below(f"{region}/{day:%Y/%m/%d}")
            if each.key.endswith(".json.gz") and _short(each.key) not in done
        )
        last = until.astimezone(UTC).date() - LATE
        for key, content in self._fetched(keys):
            if isinstance(content, RegistryError):
                reading.cannot(f"{key}: {content.what}")
                last = min(last, _day(_short(key)[:10]) or first)
                continue
            raw, cut = unpacked(content)
            records, torn = _records(raw)
            if cut or torn:
                reading.cannot(f"{key} is cut or damaged: {cut or torn}; what could be read of it is kept")
                last = min(last, _day(_short(key)[:10]) or first)
            for record in records:
                if _MARK in bytes(record):
                    yield from events_of_record(record, reading, source=self._name, names=self._names)
                else:
                    reading.other += 1
            if not (cut or torn):
                done.add(_short(key))
        reading.cursor["day"] = str(max(first, last))
        kept = [
            each for each in sorted(done) if (_day(each[:10]) or date.min) >= (_day(reading.cursor["day"]) or first)
        ]
        reading.cursor["files"] = " ".join(kept)

    def _fetched(self, keys: list[str]) -> Iterator[tuple[str, bytes | RegistryError]]:
        """Each file as it is stored. Of a bucket the next ones are on their way meanwhile; files of a folder are not:
        threads that take turns with the one that reads cost more than the disk."""
        if "://" not in self.where:
            yield from ((key, self._fetch(key)) for key in keys)
            return
        with ThreadPoolExecutor(AHEAD) as pool:
            waiting: deque[tuple[str, Future[bytes | RegistryError]]] = deque()
            for key in keys:
                waiting.append((key, pool.submit(self._fetch, key)))
                if len(waiting) > AHEAD:
                    first, future = waiting.popleft()
                    yield first, future.result()
            yield from ((key, future.result()) for key, future in waiting)

    def _fetch(self, key: str) -> bytes | RegistryError:
        try:
            return self._store.read(key, limit=MOST_BYTES)
        except RegistryError as error:
            return error


def unpacked(raw: bytes) -> tuple[bytes, str]:
    """What gzip holds, as far as it goes, and what is wrong with the rest."""
    found = bytearray()
    while True:
        unpacker = zlib.decompressobj(wbits=31)
        try:
            found += unpacker.decompress(raw, MOST_UNPACKED - len(found) + 1)
        except zlib.error as error:
            return bytes(found) + _before_error(raw), f"gzip cannot be read: {error}"
        if len(found) > MOST_UNPACKED:
            return bytes(found[:MOST_UNPACKED]), f"it unpacks to more than {MOST_UNPACKED} bytes"
        if not unpacker.eof:
            return bytes(found), "the file ends early"
        raw = unpacker.unused_data
        if not raw.strip(b"\0"):
            return bytes(found), ""


def _before_error(raw: bytes) -> bytes:
    """What comes out before the place that is damaged."""
    unpacker, found = zlib.decompressobj(wbits=31), bytearray()
    try:
        for at in range(0, len(raw), 4096):
            found += unpacker.decompress(raw[at : at + 4096], MOST_UNPACKED - len(found))
            if len(found) >= MOST_UNPACKED:
                break
    except zlib.error:
        pass
    return bytes(found)


def _records(raw: bytes) -> tuple[list[msgspec.Raw] | list[bytes], str]:
    """The records of a file; of one that is no whole JSON those before the damage, and what is wrong."""
    try:
        return msgspec.json.decode(raw, type=ready(_File)).records, ""
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return list(_salvaged(raw)), plain(str(error))[:200] or "this is no JSON"


def _salvaged(raw: bytes) -> Iterator[bytes]:
    text = raw.decode(errors="replace")
    at, decoder = text.find("["), json.JSONDecoder()
    while at >= 0:
        at = text.find("{", at)
        if at < 0:
            return
        try:
            found, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return
        yield msgspec.json.encode(found)


def _days(first: date, last: date) -> Iterator[date]:
    for count in range((last - first).days + 1):
        yield first + timedelta(days=count)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _short(key: str) -> str:
    """Day and name of a file: ``2026-11-29/ACCOUNT_CloudTrail_..``."""
    parts = key.rsplit("/", 4)
    return f"{'-'.join(parts[-4:-1])}/{parts[-1]}".replace(" ", "_")


__all__ = ["CloudTrailFiles", "unpacked"]
