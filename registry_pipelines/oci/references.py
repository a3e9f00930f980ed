"""Image references, by the rules of the distribution project's ``reference`` package (grammar in its documentation)."""

from __future__ import annotations

import re

import msgspec
from msgspec.structs import replace

from registry_pipelines.errors import DigestInvalid, ReferenceInvalid
from registry_pipelines.oci.digest import Digest

MAX_NAME_LENGTH = 255
"""Characters of registry and repository together (the same package, ``NameTotalLengthMax``)."""

DOCKER_HUB = "docker.io"
_DOMAIN = re.compile(
    r"(?:\[[0-9a-fA-F:]+\]|(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
    r"(?:\.(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9]))*)(?::[0-9]+)?\Z"
)
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")


def check_repository(text: str) -> str:
    """Return ``text`` when it is a repository name (distribution-spec 1.1, "Pulling manifests").

    Raises ReferenceInvalid.
    """
    if not _REPOSITORY.match(text) or len(text) > MAX_NAME_LENGTH:
        raise ReferenceInvalid(
            f"{text[:300]!r} is not a repository name",
            do="Use lower-case letters, digits, single . _ - between them, and / between parts",
        )
    return text


def check_tag(text: str) -> str:
    """Return ``text`` when it is a tag (same section: at most 128 characters). Raises ReferenceInvalid."""
    if not _TAG.match(text):
        raise ReferenceInvalid(
            f"{text[:160]!r} is not a tag", do="Use at most 128 letters, digits, _ . -, not starting with . or -"
        )
    return text


class Reference(msgspec.Struct, frozen=True):
    """``registry/repository[:tag][@digest]``; at least one of tag and digest after :meth:`parse`."""

    registry: str
    """Host with optional port; Docker Hub is ``docker.io``."""
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str, *, default_tag: str = "latest") -> Reference:
        """Parse as Docker does: ``python`` is ``docker.io/library/python:latest``.

        The first part is a registry only with a dot, a colon or as ``localhost``. ``default_tag=""`` leaves a bare
        name bare. Raises ReferenceInvalid.
        """
        check_no_url(text)
        rest, at, digest_text = text.partition("@")
        try:
            digest = Digest.parse(digest_text) if at else None
        except DigestInvalid as error:
            raise ReferenceInvalid(f"{text[:300]!r}: {error.what}", do=error.do) from error
        name, tag = _split_tag(rest)
        first, slash, remainder = name.partition("/")
        if slash and ("." in first or ":" in first or first == "localhost"):
            registry, repository = first, remainder
        else:
            registry, repository = DOCKER_HUB, name
        if registry == "index.docker.io":
            registry = DOCKER_HUB
        if registry == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        if not _DOMAIN.match(registry):
            raise ReferenceInvalid(f"{registry[:300]!r} is not a registry host", do="Write host or host:port")
        if len(registry) + 1 + len(repository) > MAX_NAME_LENGTH:
            raise ReferenceInvalid(f"the name of {text[:80]!r}... is longer than {MAX_NAME_LENGTH} characters")
        check_repository(repository)
        if tag:
            check_tag(tag)
        elif digest is None:
            tag = default_tag
        return cls(registry, repository, tag, digest)

    @property
    def selector(self) -> str:
        """What goes into ``/v2/<name>/manifests/<selector>``: the digest when there is one, else the tag."""
        return self.digest or self.tag

    def with_digest(self, digest: Digest) -> Reference:
        """The same repository by digest alone."""
        return replace(self, tag="", digest=digest)

    def with_tag(self, tag: str) -> Reference:
        """The same repository by tag alone."""
        return replace(self, tag=check_tag(tag), digest=None)

    def __str__(self) -> str:
        text = f"{self.registry}/{self.repository}"
        if self.tag:
            text += f":{self.tag}"
        return f"{text}@{self.digest}" if self.digest else text


def check_no_url(text: str) -> None:
    """Raises ReferenceInvalid for what a browser or skopeo is given: ``https://host/a``, ``docker://host/a``."""
    scheme, url, _ = text.partition("://")
    if url:
        from registry_pipelines.redacting import redact_text  # a URL may hold a password

        bare = redact_text(text[:300]).partition("://")[2]
        raise ReferenceInvalid(f"a registry or an image has no {scheme[:20]}://", do=f"Write {bare}")


def _split_tag(text: str) -> tuple[str, str]:
    head, colon, tail = text.rpartition(":")
    if not colon or "/" in tail:
        return text, ""
    if not tail:
        raise ReferenceInvalid(f"{text[:300]!r} ends with a colon", do="Write a tag after it, or leave it out")
    return head, tail
