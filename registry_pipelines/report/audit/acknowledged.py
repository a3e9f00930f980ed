"""That a person looked at an alert and it is no harm, or was dealt with: signed, and kept beside the events.

A DSSE envelope (github.com/secure-systems-lab/dsse) a file, named by the alert; one that no believed person's key
signed counts for nothing, and is said.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import msgspec

from registry_pipelines.errors import InputError, RegistryPipelinesError, SignatureInvalid
from registry_pipelines.evidence.dsse import read_envelope, sign_envelope, verify_envelope, write_envelope
from registry_pipelines.evidence.model import Signer, Verifier
from registry_pipelines.evidence.predicates import ACKNOWLEDGEMENT_TYPE
from registry_pipelines.oci.decoding import ready
from registry_pipelines.shared.documents import Documents

MOST_BYTES = 64 * 1024
MOST_REASON = 1000
_ID = re.compile(r"(channel-move|delete|stranger)-[0-9a-f]{12}")


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """alert: its id. reason: why it is no harm. by: the person's name, as it was given. at: RFC 3339, UTC."""

    alert: str
    reason: str
    by: str
    at: str


def check_id(text: str) -> str:
    """An alert's id. Raises InputError."""
    if not _ID.fullmatch(text):
        raise InputError(f"{text[:60]!r} is no alert's id", do="Copy one from `registry-pipelines report audit`")
    return text


def acknowledge(folder: Documents, told: Acknowledgement, signer: Signer) -> None:
    """Sign and keep one. Raises InputError (no reason), LocalError."""
    check_id(told.alert)
    if not told.reason.strip() or len(told.reason) > MOST_REASON or not told.reason.isprintable():
        raise InputError(
            "an acknowledgement needs a reason", do=f"Write --reason with 1 to {MOST_REASON} printable characters"
        )
    raw = write_envelope(sign_envelope(msgspec.json.encode(told), signer, payload_type=ACKNOWLEDGEMENT_TYPE))
    folder.write(f"{told.alert}.json", raw)


def acknowledged(
    folder: Documents, alerts: Collection[str], verifier: Verifier | None
) -> tuple[dict[str, Acknowledgement], list[str]]:
    """Of some alerts those that were acknowledged, and what is wrong with others, one sentence each."""
    found: dict[str, Acknowledgement] = {}
    problems: list[str] = []
    for alert in sorted(set(alerts)):
        try:
            if kept := folder.read(f"{alert}.json", most=MOST_BYTES):
                found[alert] = _read(kept.content, f"{folder.where}/{alert}.json", alert, verifier)
        except RegistryPipelinesError as error:
            problems.append(f"the acknowledgement of {alert} does not count: {getattr(error, 'what', error)}")
    return found, problems


def _read(raw: bytes, where: str, alert: str, verifier: Verifier | None) -> Acknowledgement:
    if verifier is None:
        raise SignatureInvalid("no key is believed here", where=where)
    envelope = read_envelope(raw, where=where, max_bytes=MOST_BYTES)
    signers = verify_envelope(envelope, verifier, where=where, payload_type=ACKNOWLEDGEMENT_TYPE)
    verifier.vouching(signers, ACKNOWLEDGEMENT_TYPE)
    try:
        told = msgspec.json.decode(envelope.payload, type=ready(Acknowledgement))
    except msgspec.MsgspecError as error:
        raise SignatureInvalid("what is signed is no acknowledgement", where=where) from error
    if told.alert != alert:
        raise SignatureInvalid("it is another alert's", where=where)
    return told


__all__ = ["Acknowledgement", "acknowledge", "acknowledged", "check_id"]
