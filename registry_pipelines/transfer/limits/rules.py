"""What is known of registries before they are asked: sizes they refuse and request rates they permit.

Figures are of autumn 2026; the vendors' pages say more and change, so every figure can be overridden by an own rule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from registry_pipelines.oci.manifests import Descriptor

GIB = 1024**3

Action = Literal["read-manifest", "write-manifest", "read-blob", "begin", "append", "settings"]
"""What registries limit, each by itself. ``begin`` opens an upload or mounts; ``append`` sends content;
``settings`` is the API of a cloud beside images; ``read-manifest`` is every other question."""


class RegistryRule(msgspec.Struct, frozen=True):
    """One kind of registry. host: regular expression for the whole host. max_layer_bytes: 0 is no limit known.
    per_second: requests a second, by action. refused_media_types: blobs not taken.
    sparse_indexes: False where an index is taken only when all its children are there."""

    host: str
    max_layer_bytes: int = 0
    per_second: Mapping[Action, float] = {}
    refused_media_types: tuple[str, ...] = ()
    bytes_per_month: int = 0
    """Bytes that are read for nothing in a month; 0 where that is not limited."""
    chunks: bool = True
    """False: a blob is taken only in one piece."""
    sparse_indexes: bool = True


class Refusal(msgspec.Struct, frozen=True):
    """Why a registry will not take something, and what to do."""

    why: str
    do: str


def whole_index_advice(*, rewritten: bool) -> str:
    """What to do where a registry refuses an index without some of its children. rewritten: the top index was written
    anew already; then it is an index within it."""
    return (
        "Take all platforms"
        if rewritten
        else "Set `selection: rewritten` (`--selection rewritten`), or take all platforms"
    )


KNOWN: tuple[RegistryRule, ...] = (
    # ECR service quotas, per account and region: PutImage 10, Initiate 100, UploadPart 500, BatchGetImage 2,000.
    RegistryRule(
        r"\d+\.dkr[.-]ecr(-fips)?\.[a-z0-9-]+\.(amazonaws\.(com(\.cn)?|eu)|on\.(aws|amazonwebservices\.com\.cn))",
        52_000 * 1024**2,
        {"write-manifest": 10, "begin": 100, "append": 500, "read-manifest": 2000, "read-blob": 3000},
        sparse_indexes=False,  # its API model: PutImage raises ReferencedImagesNotFoundException
    ),
    RegistryRule(
        r"public\.ecr\.aws",
        52_000 * 1024**2,
        {"write-manifest": 10, "begin": 10, "append": 260, "read-manifest": 10},
        bytes_per_month=500 * 1000**3,  # without a log-in; price list of ECR Public
        sparse_indexes=False,  # as above
    ),
    # Artifact Registry quotas (per project and location, a minute): 60,000 requests, 18,000 writes, 18,000 deletes;
    # 9.9 GB a request, which is all of a layer.
    RegistryRule(
        r"[a-z0-9-]+-docker\.pkg\.dev|((us|eu|asia)\.)?gcr\.io",
        9_900_000_000,
        {"write-manifest": 150, "begin": 100, "append": 300, "read-manifest": 600, "read-blob": 400},
        chunks=False,
    ),
    # GitHub: 10 GB a layer (documentation); about 2,000 requests a minute for one principal (measured by users).
    RegistryRule(
        r"ghcr\.io",
        10 * 1000**3,
        {"write-manifest": 8, "begin": 8, "append": 8, "read-manifest": 16, "read-blob": 8},
        chunks=False,
    ),
    # Azure: a layer up to 200 GiB (documentation).
    RegistryRule(r"[a-z0-9]+\.azurecr\.(io|cn|us)", 200 * GIB),
)
"""From the vendors' pages, as collected in docs/transfer.md."""


def rule_for(host: str, rules: Sequence[RegistryRule] = KNOWN) -> RegistryRule:
    """The first rule for a host, an empty one when there is none."""
    return next((rule for rule in rules if re.fullmatch(rule.host, host)), RegistryRule(host=".*"))


def refusal(host: str, blobs: Sequence[Descriptor], rules: Sequence[RegistryRule] = KNOWN) -> Refusal | None:
    """Why the registry will not take one of the blobs; None when nothing is known against them."""
    rule = rule_for(host, rules)
    for blob in blobs:
        if rule.max_layer_bytes and blob.size > rule.max_layer_bytes:
            why = f"blob {blob.digest} has {blob.size} bytes, {host} takes at most {rule.max_layer_bytes}"
            return Refusal(why, "Split the layer, or choose another target")
        if blob.media_type in rule.refused_media_types:
            why = f"blob {blob.digest} is {blob.media_type}, which {host} does not take"
            return Refusal(why, "Choose another target")
    return None
