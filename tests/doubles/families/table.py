"""What a family of registries does otherwise than the embedded server, as plain data: one row for each deviation.

A row says on which route and under which condition it is played, what is answered instead (or how the embedded server's
own answer is changed), how our client handles it, and where the fact is from, with the date it was seen or published.
``engine`` plays the rows; ``document`` writes docs/registries.md from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Stage = Literal[
    "probe", "catalogue", "copy", "sync", "sbom", "sign", "verify", "judge", "promote", "collect", "replicate", "mirror"
]
SOURCE_STAGES: tuple[Stage, ...] = (
    "probe", "catalogue", "copy", "sync", "mirror", "sbom", "sign", "verify", "judge", "promote", "collect"
)  # fmt: skip
"""What is done with images that are at the family. ``probe``: its capabilities are tried out."""
TARGET_STAGES: tuple[Stage, ...] = ("copy", "sync", "replicate", "verify", "mirror", "collect")
"""What is done with the family as the place where copies go. Evidence is written at the source and comes along."""
PEERS = ("crane", "oras", "skopeo")


@dataclass(frozen=True)
class When:
    """A condition; all that is set must hold.

    query: a parameter that is there; without: one that is not. above: (parameter, number). header: (name, pattern for
    the value, "" for a missing one). name, reference: patterns of repository and tag or digest. type: pattern of the
    media type stored under the reference. missing: the repository is not there ("repository"), or what the reference
    names is not ("content"). taken: the tag names another manifest than the one that is put. children: an index is put,
    one of whose manifests is not there. body_above: Content-Length in bytes. allowed: whether the request has a token
    (or password) that lets it do this. status: of the embedded server's answer (changes only).
    """

    query: str = ""
    without: str = ""
    above: tuple[str, int] | None = None
    header: tuple[str, str] | None = None
    name: str = ""
    reference: str = ""
    type: str = ""
    missing: Literal["", "repository", "content"] = ""
    taken: bool = False
    children: bool = False
    body_above: int | None = None
    allowed: bool | None = None
    status: int | None = None


@dataclass(frozen=True)
class Answer:
    """Instead of the embedded server. Header values and bodies may hold ``{elsewhere}`` (the second host's URL),
    ``{here}``, ``{target}`` (path and query as asked), ``{rest}`` (without ``/v2``), ``{tail}`` (without the
    repository), ``{repository}``, ``{project}`` and ``{image}`` (its first part, the others), ``{reference}``,
    ``{actions}`` (that a token must be for), ``{location}`` (of the embedded server's answer)."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | Mapping[str, Any] = ""


@dataclass(frozen=True)
class Signed:
    """A redirect to a signed address at the object store, good for GET alone."""

    status: int = 307


@dataclass(frozen=True)
class Ask:
    """The embedded server is asked for something else. reference: what stands for the reference, with ``\\1`` groups of
    the row's pattern. drop: parameters it never sees."""

    reference: str = ""
    drop: tuple[str, ...] = ()


@dataclass(frozen=True)
class ForPlatform:
    """The manifest of one architecture instead of the index that was asked for."""

    architecture: str


@dataclass(frozen=True)
class Change:
    """The embedded server's answer, changed. set: as in Answer. drop: headers."""

    status: int = 0
    set: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    body: str | None = None


@dataclass(frozen=True)
class Pages:
    """A list of tags or repositories in pages of the server's own size, whatever was asked. token: the parameter that
    holds an opaque token for the next page; empty: ``last``, as in the specification."""

    size: int
    token: str = ""


@dataclass(frozen=True)
class HidePrefixed:
    """A tag is not listed when another tag is its beginning, and a letter, digit or ``_`` follows."""


@dataclass(frozen=True)
class StuckRange:
    """The Range of an upload stays at the end of its first chunk, though all bytes are kept."""


@dataclass(frozen=True)
class ListTagged:
    """The list of referrers also has what lies under the subject's ``.sig`` tag, which names no subject."""


@dataclass(frozen=True)
class AddFallbackTag:
    """When a referrer is put, the server itself writes the fallback tag of the subject."""


Act = Answer | Signed | Ask | ForPlatform | Change | Pages | HidePrefixed | StuckRange | ListTagged | AddFallbackTag


@dataclass(frozen=True)
class Row:
    """One deviation. on: ``GET referrers``; several methods are joined by ``|``, ``*`` is any method or route.

    situation, handling: sentences for the documentation. source: where the fact is from. date: year and month, of the
    source. provoke: (method, path, headers) of what our client never does, so that it never meets the row; ``{signed}``
    is a repository with an image tagged v1, ``{basic}`` the account.
    """

    name: str
    on: str
    then: Act
    situation: str
    handling: str
    source: str
    date: str
    when: When = When()
    provoke: tuple[str, str, Mapping[str, str]] | None = None


@dataclass(frozen=True)
class Cell:
    """Why a stage does not end as elsewhere. error: the class of ours that says so. lost: it is done, and this is
    lost. Neither: the stage makes no sense there and is not tried."""

    why: str
    error: str = ""
    lost: bool = False


@dataclass(frozen=True)
class Family:
    """A kind of registry.

    name: short, for tests. title: for the documentation. repository: a repository's name as it must be there, with
    ``{name}``. user: an account for those that want one. read_only: nothing can be pushed; its content is laid in from
    behind. needs_repositories: they are made before anything is pushed. source, target: stages that do not end as
    elsewhere. peers: the same of other programs, by ``source crane`` and so on; error: in what they print. finds: what
    ``probe`` learns.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    finds: Mapping[str, bool | None]
    repository: str = "{name}"
    user: tuple[str, str] | None = None
    read_only: bool = False
    needs_repositories: bool = False
    source: Mapping[Stage, Cell] = field(default_factory=dict)
    target: Mapping[Stage, Cell] = field(default_factory=dict)
    peers: Mapping[str, Cell] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    """Further tags of the image that is copied, which the family's lists have trouble with."""
    hidden: tuple[str, ...] = ()
    """Those of them that its lists leave out."""
    remark: str = ""
    """For the documentation: where sources contradict each other."""


def problem(code: str, message: str, detail: str | Mapping[str, str] = "") -> dict[str, Any]:
    """An error's body in the specification's form."""
    entry = {"code": code, "message": message}
    return {"errors": [{**entry, "detail": detail} if detail else entry]}


def challenge(realm: str, service: str, more: str = "") -> Answer:
    """401, and where to get a bearer token for what was asked."""
    scope = "repository:{repository}:{actions}"
    return Answer(
        401,
        {"WWW-Authenticate": f'Bearer realm="{realm}",service="{service}",scope="{scope}"{more}'},
        problem("UNAUTHORIZED", "authentication required"),
    )
