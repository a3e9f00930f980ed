"""A mirror's lock: what of every upstream is taken, by digest, in a file that people review.

The form is ours. The first line says what it is; then one line for each tag, sorted, so that a review shows exactly the
tags that change::

    # registry-pipelines mirror lock 1: private
    docker.io/library/python:3.12-slim sha256:<64 hex> linux/amd64,linux/arm64 51234567 mirror/library/python

The columns: the upstream as the configuration writes it, with the tag; the digest; the platforms of what it names,
behind ``only:`` where just those are taken of an index that has more, ``-`` where it is no image; bytes of all
manifests and blobs that are taken, each once, without what refers to it; the repository it gets. Other lines with ``#``
in front are comments. ``mirror lock`` writes it, and a mirror takes exactly what it says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from registry_pipelines.errors import DigestInvalid, InputError, PlatformInvalid, ReferenceInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.oci.references import check_repository, check_tag
from registry_pipelines.oci.tags import order_key

HEAD = "# registry-pipelines mirror lock 1: "
"""How the first line begins; the mirror's name comes behind it."""

MAX_LOCK_BYTES = 64 * 1024 * 1024
"""Some 300,000 lines; more than any registry's quota permits to mirror."""

MAX_PROBLEMS = 20
"""Lines that one error names; a merge that went wrong has hundreds."""

Change = Literal["moved", "appeared", "vanished", "reached otherwise"]
"""What is otherwise upstream than in the lock: a tag names another digest, is new, or is gone; or its place here, or
the platforms that are taken, were changed in the configuration."""


@dataclass(frozen=True, kw_only=True)
class LockedTag:
    """One line. platforms: of what the digest names; ``only``: just those are taken of it. size: bytes."""

    image: str
    tag: str
    digest: Digest
    platforms: tuple[Platform, ...] = ()
    only: bool = False
    size: int = 0
    repository: str

    @property
    def name(self) -> str:
        """Image and tag."""
        return f"{self.image}:{self.tag}"

    @property
    def key(self) -> tuple[str, str, str]:
        """What there is one line of."""
        return self.image, self.tag, self.repository

    @property
    def line(self) -> str:
        """As it stands in the file."""
        platforms = ",".join(map(str, self.platforms)) or "-"
        return f"{self.name} {self.digest} {'only:' if self.only else ''}{platforms} {self.size} {self.repository}"


@dataclass(frozen=True)
class Lock:
    """What is taken. tags: in the order of the file."""

    mirror: str
    tags: tuple[LockedTag, ...]

    @classmethod
    def parse(cls, text: str, *, where: str) -> Lock:
        """Read a file's text. Raises InputError that names every line which is not as it should be (at most
        :data:`MAX_PROBLEMS`): a conflict of a merge, two lines for one tag, a digest that was cut."""
        lines = text.splitlines()
        if not lines or not lines[0].startswith(HEAD):
            raise InputError(
                f"it does not begin with {HEAD.strip()!r}",
                where=where,
                do="Write it with `registry-pipelines mirror lock`",
            )
        tags: dict[tuple[str, str, str], LockedTag] = {}
        problems: list[str] = []
        for number, line in enumerate(lines[1:], start=2):
            if not line.strip() or line.startswith("#"):
                continue
            try:
                read = _read_line(line)
                if read.key in tags:
                    raise InputError(f"a second line for {read.name}")
                tags[read.key] = read
            except InputError as error:
                problems.append(f"line {number}: {error.what}")
        if problems:
            more = [f"{len(problems) - MAX_PROBLEMS} more"] if len(problems) > MAX_PROBLEMS else []
            raise InputError(
                "\n".join([*problems[:MAX_PROBLEMS], *more]),
                where=where,
                do="Correct them, or write it again with `registry-pipelines mirror lock`",
            )
        return cls(lines[0].removeprefix(HEAD).strip(), tuple(tags.values()))

    @property
    def text(self) -> str:
        """The file's text: sorted by image and version, the highest last."""
        ordered = sorted(self.tags, key=lambda each: (each.image, order_key(each.tag), each.repository))
        return "\n".join([f"{HEAD}{self.mirror}", *(each.line for each in ordered), ""])


@dataclass(frozen=True)
class Difference:
    """One tag that is not as the lock says. before: None for one that appeared; now: None for one that vanished."""

    change: Change
    before: LockedTag | None
    now: LockedTag | None

    @property
    def tag(self) -> LockedTag:
        """The one it is about."""
        found = self.now or self.before
        assert found is not None  # noqa: S101 - one of both is there
        return found

    @property
    def sentence(self) -> str:
        """For people."""
        if self.before and self.now and self.change == "moved":
            return f"{self.tag.name} moved from {self.before.digest.short} to {self.now.digest.short}"
        return f"{self.tag.name} {'is ' if self.change == 'reached otherwise' else ''}{self.change}"


def differences(before: Iterable[LockedTag], now: Iterable[LockedTag]) -> list[Difference]:
    """What changed from one state of the tags to another, sorted by name. Sizes are not compared: the digest has
    them."""
    old, new = {each.key: each for each in before}, {each.key: each for each in now}
    found: list[Difference] = []
    for key in sorted(old.keys() | new.keys()):
        was, there = old.get(key), new.get(key)
        if was is None or there is None:
            found.append(Difference("appeared" if was is None else "vanished", was, there))
        elif was.digest != there.digest:
            found.append(Difference("moved", was, there))
        elif (was.only, was.only and was.platforms) != (there.only, there.only and there.platforms):
            found.append(Difference("reached otherwise", was, there))
    return found


def _read_line(line: str) -> LockedTag:
    columns = line.split(" ")
    if len(columns) != 5:
        raise InputError(f"{line[:120]!r} has {len(columns)} columns, not 5 with one blank between them")
    name, digest, platforms, size, repository = columns
    image, colon, tag = name.rpartition(":")
    if not (image and colon) or "/" in tag:
        raise InputError(f"{name[:200]!r} is not an image with a tag")
    only, listed = platforms.startswith("only:"), platforms.removeprefix("only:")
    if not (size.isascii() and size.isdecimal() and len(size) <= 18):
        raise InputError(f"{size[:40]!r} is not a number of bytes")
    try:
        return LockedTag(
            image=image,
            tag=check_tag(tag),
            digest=Digest.parse(digest),
            platforms=() if listed == "-" else tuple(Platform.parse(each) for each in listed.split(",")),
            only=only,
            size=int(size),
            repository=check_repository(repository),
        )
    except (DigestInvalid, ReferenceInvalid, PlatformInvalid) as error:
        raise InputError(error.what) from error
