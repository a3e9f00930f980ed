"""Whose word it is that bytes of layers are right."""

from __future__ import annotations

from registry_pipelines.evidence.model import Verifier
from registry_pipelines.evidence.predicates import STREAMING_INDEX_TYPE
from registry_pipelines.oci.digest import Digest


class NotBelieved(str):
    """Why a layer is not read by pieces, where something says how, and nobody who is believed vouches for that."""


UNPROVEN = NotBelieved(
    "nobody who is believed says that it unpacks to what the image's config claims, whose name others use, too "
    "(a trusted indexer does by `stream index` or `stream convert`)"
)
"""Why a layer of eStargz is not read by its own table; see ``proving``."""


def vouched(verifier: Verifier, table: Digest | None = None) -> Digest:
    """Names, for ``BlockStore.open``, bytes of layers that are believed because these keys vouch for where they came
    from: whoever believes others has other files. table: of eStargz, in whose layout positions are."""
    keys = " ".join(verifier.believed(STREAMING_INDEX_TYPE))
    return Digest.of(f"{table or 'tar'} as vouched for by {keys}".encode())


__all__ = ["NotBelieved", "vouched"]
