"""What was left out, in words and rows: the same ones in plans, results, receipts, JSON, tables and Dagster."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from registry_pipelines.progress import size_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.closure.closure import Closure, Omission

Row = dict[str, str | int]

_SENTENCES: Mapping[str, tuple[str, str]] = {
    "foreign-layer": ("layer{size} stays with its publisher", "layers{size} stay with their publisher"),
    "platform": ("platform was not chosen", "platforms were not chosen"),
    "referrer": ("referrer stays behind", "referrers stay behind"),
    "claim": ("entry of a list of referrers is not believed", "entries of lists of referrers are not believed"),
    "tag": ("tag stays behind", "tags stay behind"),
    "repository": ("repository is not taken", "repositories are not taken"),
}
"""Kind to what is said of one and of several; ``{size}`` is the sum of what is known."""

_REASONED = ("referrer", "claim", "tag", "repository")
"""Kinds that are left out for different reasons, so that each reason has a part of the note."""


def note(omissions: Iterable[Omission]) -> str:
    """What is left out, as one line for people: how many of each kind, and why; empty for none."""
    groups: dict[tuple[str, str], list[Omission]] = {}
    for each in dict.fromkeys(omissions):
        groups.setdefault((each.kind, each.why if each.kind in _REASONED else ""), []).append(each)
    return "; ".join(_sentence(kind, why, group) for (kind, why), group in groups.items())


def rows(omissions: Iterable[Omission]) -> list[Row]:
    """What is left out, as rows of a table, each once: ``kind``, ``why``, ``what`` (digest, tag or repository; long, so
    it comes late in tables), ``size_bytes`` (0 where unknown); in a stable order, so that what two runs say can be
    compared."""
    ordered = sorted(dict.fromkeys(omissions), key=lambda each: (each.kind, each.what, each.why))
    return [
        {"kind": each.kind, "why": each.why, "what": str(each.what), "size_bytes": each.size_bytes} for each in ordered
    ]


def left_over(place: Place, tags: Iterable[str], theirs: Container[str]) -> list[Omission]:
    """Those of a repository's tags named after digests that are not among the companions of what is taken: they are of
    images that are not, or of none that is there."""
    why = "named after a digest, and of no image that is taken"
    return [Omission("tag", f"{place}:{tag}", why) for tag in tags if tag not in theirs]


def companions(closure: Closure) -> set[str]:
    """The tags that travel with a closure by themselves: cosign's, and lists of referrers."""
    return {*closure.digest_tags, *(manifest.digest.fallback_tag for manifest in closure.manifests)}


def _sentence(kind: str, why: str, omissions: Sequence[Omission]) -> str:
    one, several = _SENTENCES[kind]
    size = sum(omission.size_bytes for omission in omissions)
    said = (one if len(omissions) == 1 else several).format(size=f" ({size_text(size)})" if size else "")
    return f"{len(omissions)} {said}{f': {why}' if why else ''}"
