"""Until when a trusted key is believed, and which are not any more.

A signature has no date that its own key could not have made up. So a retired key is believed **until a day**, whenever
the signature was made, and a revoked one for nothing at all, in no role, whichever file still trusts it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime

import msgspec

from registry_pipelines.errors import InputError, KeyRefused
from registry_pipelines.evidence.model import key_name

_LINE = re.compile(r"(sha256:[0-9a-f]{64})[ \t]+(\S.{0,199})\Z")


class Terms(msgspec.Struct, frozen=True):
    """What is said about trusted keys, by their ids."""

    until: Mapping[str, date] = msgspec.field(default_factory=dict)
    """The last day (UTC) on which a retired key is believed."""
    revoked: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Why a key is revoked."""

    def against(self, key_id: str, *, today: date | None = None) -> str:
        """Why a key is not believed today; empty when nothing is said against it."""
        if reason := self.revoked.get(key_id):
            return f"is revoked ({reason})"
        last = self.until.get(key_id)
        if last is not None and (today or datetime.now(UTC).date()) > last:
            return f"is retired and was believed until {last}"
        return ""

    def check(self, key_id: str) -> None:
        """Raise KeyRefused for a key that is not believed today."""
        if against := self.against(key_id):
            raise KeyRefused(
                f"it is signed by {key_name(key_id)}, which {against}", do="Have a key sign it that is believed today"
            )


NO_TERMS = Terms()


def read_revoked(raw: bytes, *, where: str) -> dict[str, str]:
    """A list of revoked keys: key ids with the reason.

    Text: a line for each key, ``sha256:<64 hex digits> reason``; empty lines and those that begin with ``#`` are
    remarks. Raises InputError, which names the line: a list that cannot be read whole revokes too little.
    """
    try:
        lines = raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError("the list of revoked keys is not UTF-8 text", where=where) from error
    revoked: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise InputError(
                f"line {number} of the list of revoked keys is no key id with a reason",
                where=where,
                do="Write sha256:<64 hex digits>, a space, and why; `verify --json` shows the ids of keys",
            )
        revoked[match[1]] = match[2]
    return revoked
