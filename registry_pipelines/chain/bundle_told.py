"""What is told of a bundle: facts, rows and sentences, the same where it is made and where it is shown."""

from __future__ import annotations

from collections.abc import Mapping

from registry_pipelines.chain.result import Scalar
from registry_pipelines.mirror.bundle.format import Bundle
from registry_pipelines.progress import count_text, size_text

MAX_NAMED = 5
"""Bundles or files that one sentence names."""


def facts_of(bundle: Bundle) -> Mapping[str, Scalar]:
    """Numbers of a bundle under stable names."""
    left_out = sum(need.size for need in bundle.needs)
    return {
        "number": bundle.number,
        "line": bundle.line,
        "full": bundle.receipt is None,
        "images": len(bundle.images),
        "parts": len(bundle.parts),
        "blobs": len(bundle.blobs),
        "bytes": bundle.stream_size,
        "blobs_confirmed": len(bundle.needs),
        "confirmed_bytes": left_out,
        "left_out_count": len(bundle.left_out),
    }


def image_rows(bundle: Bundle) -> list[dict[str, Scalar]]:
    """What a bundle brings, an image a row."""
    return [
        {
            "repository": each.repository,
            "tags": ", ".join(each.tags),
            "digest": each.digest,
            "manifests": len(each.manifests),
            "source": each.source,
        }
        for each in bundle.images
    ]


def part_rows(bundle: Bundle) -> list[dict[str, Scalar]]:
    """The files of a bundle."""
    return [{"part": each.name, "bytes": each.size, "sha256": each.sha256} for each in bundle.parts]


def left_out_rows(bundle: Bundle) -> list[dict[str, Scalar]]:
    """What belongs to the mirror and does not cross."""
    return [
        {"image": each.image, "kind": each.kind, "why": each.why, "what": each.what, "size_bytes": each.size_bytes}
        for each in bundle.left_out
    ]


def left_out_notes(bundle: Bundle) -> list[str]:
    """What a bundle does not have, in sentences."""
    notes = []
    if bundle.receipt is not None:
        size = size_text(sum(need.size for need in bundle.needs))
        blobs = count_text(len(bundle.needs), "blob")
        notes.append(f"receipt {bundle.receipt.sequence} of the far side confirms {blobs}, {size}: left out")
    held = [each for each in bundle.left_out if each.kind == "held"]
    notes += [f"{each.image} is held: {each.why}" for each in held[:MAX_NAMED]]
    rest = len(bundle.left_out) - min(len(held), MAX_NAMED)
    if rest:
        notes.append(f"{count_text(rest, 'thing')} left out: see the table")
    return notes
