"""What is wanted for an image that should start before it is fetched whole: the class that the configuration holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, get_args

import msgspec

from registry_pipelines.settings import Instead, Size

StreamFormat = Literal["soci-v1", "soci-v2", "estargz"]
DerivedFormat = Literal["soci-v2", "estargz"]
DERIVED_FORMATS: tuple[DerivedFormat, ...] = get_args(DerivedFormat)
"""Formats of which a new image with a new digest is made."""

DEFAULT_SPAN_SIZE = Size(4 << 20)
"""Uncompressed bytes between two points of a SOCI index; the official tool's default. Smaller spans fetch less for a
file and make a larger index, which a node fetches whole before it starts."""
DEFAULT_MIN_LAYER_SIZE = Size(10 << 20)
"""Compressed bytes below which a layer gets no index and is fetched whole; the official tool's default."""
LEAST_SPAN_SIZE, MOST_SPAN_SIZE = Size(64 << 10), Size(1 << 30)
"""Each point has a window of 32 KiB: smaller spans are an index of the size of the image. Larger ones are none."""


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
    if not LEAST_SPAN_SIZE <= stream.span_size <= MOST_SPAN_SIZE:
        yield "span_size", f"{stream.span_size} is not between {LEAST_SPAN_SIZE} and {MOST_SPAN_SIZE}"
    if stream.format == "estargz":
        for field, default in (("span_size", DEFAULT_SPAN_SIZE), ("min_layer_size", DEFAULT_MIN_LAYER_SIZE)):
            if getattr(stream, field) != default:
                yield field, "is about SOCI indexes, and format estargz makes none"
