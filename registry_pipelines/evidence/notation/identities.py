"""Subjects that a Notation trust policy names: ``x509.subject: C=GB, ST=X, O=platform, CN=signer``.

Source: notaryproject/specifications, trust-store-trust-policy.md, "Trusted Identities"; RFC 4514 for the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from registry_pipelines.evidence.x509 import Certificate, subject_names

SUBJECT = "x509.subject"
ANY = "*"
NEEDED = ("C", "ST", "O")
"""What a subject of a Notation trust policy names at least."""
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)*")
_HEX = re.compile(r"[0-9A-Fa-f]{2}")


def read_subject(text: str, needed: Sequence[str] = NEEDED) -> dict[str, str]:
    """The attributes of a subject as a policy writes it, each once; ``S`` is ``ST``. needed: those that must be there.
    Raises ValueError."""
    found: dict[str, str] = {}
    for part in _split(text):
        kind, equals, value = part.partition("=")
        kind = "ST" if kind.strip(" ") == "S" else kind.strip(" ")
        if not equals or not _KIND.fullmatch(kind):
            raise ValueError(f"{part.strip()[:100]!r} is not NAME=VALUE")
        if value.lstrip(" ").startswith("#"):
            raise ValueError(f"{kind} is written in hexadecimal, which Notation does not take")
        if kind in found:
            raise ValueError(f"{kind} is there twice")
        found[kind] = _unescaped(value)
    missing = [kind for kind in needed if not found.get(kind)]
    if missing:
        raise ValueError(f"{missing[0]} is missing; a subject names C, ST and O at least")
    return found


def overlap(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether everything that ``one`` names is in ``other`` too."""
    return one.items() <= other.items()


def is_named(certificate: Certificate, subject: Mapping[str, str]) -> bool:
    """Whether a certificate's subject has every attribute that is named. A subject with an attribute twice is nobody's:
    Notation compares none of them."""
    names = subject_names(certificate)
    if any(len(values) > 1 for values in names.values()):
        return False
    return overlap(subject, {kind: values[0] for kind, values in names.items()})


def write_subject(certificate: Certificate) -> str:
    """The subject as a policy names it, every attribute of it."""
    return ",".join(
        f"{kind}={_escaped(value)}" for kind, values in subject_names(certificate).items() for value in values
    )


def _split(text: str) -> list[str]:
    """At commas and semicolons that nothing escapes; a plus makes an attribute of two, which Notation does not take."""
    parts, start, position = [], 0, 0
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] == "+":
            raise ValueError("it has two values for one attribute (+), which Notation does not take")
        elif text[position] in ",;":
            parts.append(text[start:position])
            start = position + 1
        position += 1
    return [*parts, text[start:]]


def _unescaped(text: str) -> str:
    raw, position = bytearray(), 0
    text = _trimmed(text)
    while position < len(text):
        if text[position] != "\\":
            raw += text[position].encode()
            position += 1
        elif _HEX.match(text, position + 1):
            raw += bytes.fromhex(text[position + 1 : position + 3])
            position += 3
        elif position + 1 < len(text):
            raw += text[position + 1].encode()
            position += 2
        else:
            raise ValueError("it ends in the middle of an escape")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError("a value is not UTF-8") from error


def _trimmed(text: str) -> str:
    text = text.lstrip(" ")
    bare = text.rstrip(" ")
    return f"{bare} " if bare.endswith("\\") and not bare.endswith("\\\\") and bare != text else bare


def _escaped(value: str) -> str:
    text = re.sub(r'([,+"\\<>;=])', r"\\\1", value)
    if text.startswith(("#", " ")):
        text = f"\\{text}"
    return f"{text[:-1]}\\ " if text.endswith(" ") and len(value) > 1 else text
