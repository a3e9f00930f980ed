"""What a wheel asks for, looked at before pip reads it.

pip follows requirements with an address of their own (``name @ file:///...``, ``name @ git+ssh://...``) wherever they
lead, builds what it finds there, and asks no index: whoever wrote one wheel would decide where others come from. Those
that go over http come to the front, which refuses them when they are followed; the others must not reach pip.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement

from registry_pipelines.errors import RequirementsInvalid


def check_metadata(raw: bytes, *, where: str) -> None:
    """Raise RequirementsInvalid for METADATA that sends pip to a place that is neither an index nor refused there.

    What is wrong with it otherwise, pip says.
    """
    try:
        found, _ = parse_email(raw)
    except (ValueError, RecursionError, LookupError):
        return
    for text in found.get("requires_dist") or ():
        try:
            url = Requirement(text).url
        except (InvalidRequirement, RecursionError):
            continue
        if url and urlsplit(url.strip()).scheme.lower() not in ("http", "https"):
            raise RequirementsInvalid(
                f"it asks for {text.partition('@')[0].strip()[:100]!r} at an address of its own "
                f"({urlsplit(url).scheme[:20]}:...), and no index",
                where=where,
                do="Do without it, or publish a wheel of it that names the project alone",
            )


__all__ = ["check_metadata"]
