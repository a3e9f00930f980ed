"""Whose identity is believed: rules of a configuration, and names of who signs by certificate. No cryptography is
loaded here."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Annotated

import msgspec

from registry_pipelines.evidence.model import CERTIFICATE
from registry_pipelines.settings import Pattern

PREFIX = "keyless:"
ISSUER = Pattern(
    r"^https?://[^\s*?#]{1,500}$",
    "the address of an issuer of identities",
    "write it as its certificates do, for example https://token.actions.githubusercontent.com",
)
IDENTITY = Pattern(
    r"^(?!\**$)[^\s]{1,1000}$",
    "an identity",
    "write a workflow's address, a mail address or a service's name; * stands for characters other than / and @",
)


class IdentityRule(msgspec.Struct, frozen=True, kw_only=True):
    """An identity whose signatures are believed without a key of its own."""

    issuer: Annotated[str, ISSUER]
    """Address of the OIDC issuer that proved the identity, exactly as the certificates name it."""
    identity: Annotated[str, IDENTITY]
    """Subject of the certificate: `https://github.com/team/app/.github/workflows/release.yml@refs/tags/v*`, a mail
    address, a service account. `*` stands for any characters but / and @."""

    @property
    def name(self) -> str:
        """Names the rule among ids of keys."""
        return f"{PREFIX}{self.issuer} {self.identity}"

    def holds(self, issuer: str, subject: str) -> bool:
        """Whether it is about this identity; letters count as they are written."""
        return counts(f"{PREFIX}{issuer} {subject}", [self.name])


def counts(key_id: str, ids: Iterable[str]) -> bool:
    """Whether an id is one of these: the same id of a key, an identity (``keyless:ISSUER SUBJECT``) that one of the
    rules among them, by their names, is about, or a certificate (``certificate:SHA256 NAME NAME``) that counts as
    somebody who is among them as ``certificate:NAME``."""
    if key_id.startswith(CERTIFICATE):
        return not {f"{CERTIFICATE}{name}" for name in key_id.split(" ")[1:]}.isdisjoint(ids)
    issuer, _, subject = key_id.removeprefix(PREFIX).partition(" ")
    if not key_id.startswith(PREFIX):
        return key_id in ids
    told = (each.removeprefix(PREFIX).partition(" ") for each in ids if each.startswith(PREFIX))
    return any(issuer == theirs and _expression(pattern).fullmatch(subject) for theirs, _, pattern in told)


@functools.lru_cache(maxsize=256)
def _expression(pattern: str) -> re.Pattern[str]:
    """Linear in time, however many ``*`` there are: the first place where what stands between two of them fits is as
    good as any later one, because no ``*`` crosses a / or @ to get there."""
    first, *rest = map(re.escape, pattern.split("*"))
    if not rest:
        return re.compile(first)
    return re.compile("".join([first, *(f"(?>[^/@]*?{part})" for part in rest[:-1]), f"[^/@]*{rest[-1]}"]))
