"""What is wanted for an image that should start before it is fetched whole: the class that the configuration holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, get_args

import msgspec

from registry_pipelines.settings import Duration, Instead, Pattern, Size

StreamFormat = Literal["soci-v1", "soci-v2", "estargz"]
DerivedFormat = Literal["soci-v2", "estargz"]
DERIVED_FORMATS: tuple[DerivedFormat, ...] = get_args(DerivedFormat)
"""Formats of which a new image with a new digest is made."""
Regrouped = Literal["rechunked"]
RECHUNKED: Regrouped = "rechunked"
"""The form whose layers are a package each (``anatomy.rechunk``); what is made so may be converted after that."""
RECHUNKED_LAYER = "registry-pipelines.rechunk.layer"
"""On the line of a layer in a manifest: what it is called. Who finds it knows that the image was rechunked."""
MADE_FORMS: tuple[str, ...] = (*DERIVED_FORMATS, RECHUNKED)
"""Forms that an image is made in out of another one; its tag ends with them."""

DEFAULT_SPAN_SIZE = Size(4 << 20)
"""Uncompressed bytes between two points of a SOCI index; the official tool's default. Smaller spans fetch less for a
file and make a larger index, which a node fetches whole before it starts."""
DEFAULT_MIN_LAYER_SIZE = Size(10 << 20)
"""Compressed bytes below which a layer gets no index and is fetched whole; the official tool's default."""
LEAST_SPAN_SIZE, MOST_SPAN_SIZE = Size(64 << 10), Size(1 << 30)
"""Each point has a window of 32 KiB: smaller spans are an index of the size of the image. Larger ones are none."""


QUIET_S = 30
"""Seconds without a new page after which a start is over, where nothing else says so."""
LEAST_MEMORY = Size(16 << 20)
"""What a program needs that does nothing."""

UNTIL = Pattern(
    r"^(quiet|exit|port [1-9][0-9]{0,4}|line .{1,200})$",
    "the end of a start",
    "write `exit`, `port 8000`, `line READY` or `quiet`",
)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """How a start of an image is recorded, and measured: what is run, and when it has started. `record: {}` is the
    default: the image's own entrypoint, until it reads nothing new."""

    command: tuple[str, ...] = ()
    """What the entrypoint gets in place of the image's command, as with `docker run`; the image's own unless told."""
    until: Annotated[str, UNTIL] = "quiet"
    """When it has started: `exit`: it has ended, with 0; `port 8000`: something listens there; `line READY`: it has
    printed a line with this text; `quiet`: it has read nothing new for 30 seconds."""
    timeout: Duration = Duration(minutes=10)
    """How long that may take."""
    memory: Size = Size(8 << 30)
    """Most memory of all that is run."""
    processes: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 4096
    """Most processes and threads."""


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """How an image's releases are made to start before they are fetched whole. `stream: {}` is the default: a SOCI
    index beside each release, whose digest stays as it was pushed."""

    format: Annotated[
        StreamFormat,
        Instead(("soci", "SOCI"), "write `soci-v1` (beside the image, whose digest stays) or `soci-v2` (a new digest)"),
    ] = "soci-v1"
    """`soci-v1`: an index that refers to each platform's manifest; no digest changes. `soci-v2` and `estargz` make a
    new image with a new digest under `<tag>-<format>`, and that is the release: what has the tag without it is not."""
    span_size: Size = DEFAULT_SPAN_SIZE
    """Uncompressed bytes between two points of a SOCI index."""
    min_layer_size: Size = DEFAULT_MIN_LAYER_SIZE
    """Layers of fewer compressed bytes get no SOCI index: a node fetches them whole."""
    prioritize: tuple[str, ...] = ()
    """Paths of files that a start reads: an eStargz layer begins with them, and a SOCI index
    lists the pieces that hold them, for a node to fetch first."""
    record: Record | None = None
    """How its start is recorded, of which the hot pack is made, after an allowing verdict and before the promotion;
    leave out for an image that nobody may run where releases are made."""

    @property
    def derives(self) -> bool:
        """Whether a release has a digest of its own, made of an image that was pushed."""
        return self.format in DERIVED_FORMATS

    def released_tag(self, tag: str) -> str:
        """The tag of the release that is made of the image with this tag; the same where nothing is derived."""
        return f"{tag}-{self.format}" if self.derives else tag

    def origin_of(self, tag: str) -> str:
        """The tag of the image that a derived release with this tag is made of; empty for any other tag."""
        return tag.removesuffix(f"-{self.format}") if self.derives and tag.endswith(f"-{self.format}") else ""


def problems(stream: Stream) -> Iterator[tuple[str, str]]:
    """What does not go together: the field, and what is wrong with it."""
    if stream.record is not None:
        yield from ((f"record.{field}", problem) for field, problem in record_problems(stream.record))
    if not LEAST_SPAN_SIZE <= stream.span_size <= MOST_SPAN_SIZE:
        yield "span_size", f"{stream.span_size} is not between {LEAST_SPAN_SIZE} and {MOST_SPAN_SIZE}"
    if stream.format == "estargz":
        for field, default in (("span_size", DEFAULT_SPAN_SIZE), ("min_layer_size", DEFAULT_MIN_LAYER_SIZE)):
            if getattr(stream, field) != default:
                yield field, "is about SOCI indexes, and format estargz makes none"


def record_problems(record: Record) -> Iterator[tuple[str, str]]:
    """What does not go together: the field, and what is wrong with it."""
    kind, _, what = record.until.partition(" ")
    if kind == "port" and int(what) > 65535:
        yield "until", f"{what} is no port; write one from 1 to 65535"
    if record.until == "quiet" and record.timeout <= Duration(seconds=QUIET_S):
        yield "timeout", f"{record.timeout} are not longer than the {QUIET_S} seconds that `until: quiet` waits for"
    elif record.timeout <= Duration():
        yield "timeout", "is no time"
    if record.memory < LEAST_MEMORY:
        yield "memory", f"{record.memory} are less than {LEAST_MEMORY}"
