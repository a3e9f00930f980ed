"""Registries that look for the blobs of a manifest when they take it: the read-back need not ask for each once more.

Most do (distribution and what is built on it, zot, the cloud registries: ``MANIFEST_BLOB_UNKNOWN``, distribution-spec
1.1, "Error Codes"), some do not, and nothing tells which but a trial. So a registry that took a manifest is given the
same one with one blob exchanged for one that nobody has. Refused because of that blob, it looks for blobs of this kind.
After any other answer each blob is asked for, and a twin that was stored is deleted.

Only blobs that this run uploaded there are vouched for: their bytes went out with their digest, the registry confirmed
them, and looked for them again. Mounted ones are always asked for: no byte passed, and a registry that looks in its
whole store and not in the repository would find them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from functools import partial

import msgspec

from registry_pipelines.errors import NotFound, Refused, RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import EMPTY, Descriptor, Manifest, ManifestBytes, encode_json
from registry_pipelines.registry.protocol import BlobSizes, Place
from registry_pipelines.transfer.delivery.answers import Answers
from registry_pipelines.transfer.limits.requests import CountsRequests

WORTH_A_TRIAL = 50
"""Uploads to one registry in a run. A trial is one request for each kind of blob, two for most fleets, and a line in
the registry's log; single images are not worth that."""

MAX_KINDS = 8
"""Trials per registry. Fleets have an image's config and layer, and those of a signature."""

NOBODYS = Digest.of(b"registry-pipelines: nobody stores this sentence as a blob")

_UNKNOWN_BLOB = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"})

Kind = tuple[str, str, bool, str]
"""Registry name, media type of the manifest, whether it is the config, media type of the blob."""


class Vouchers:
    """What the registries of a run vouch for. uploads: to each registry by its name, as planned. Safe for many
    threads."""

    def __init__(self, uploads: Mapping[str, int]) -> None:
        self._tried = {name: 0 for name, count in uploads.items() if count >= WORTH_A_TRIAL}
        self._looks: Answers[Kind, bool] = Answers()

    def vouched(self, target: Place, manifest: ManifestBytes, sent: Collection[Digest]) -> list[Descriptor]:
        """The blobs of a manifest that the target has just taken, and of which it is known to look for them then. sent:
        those that this run uploaded there; of others nothing is said."""
        registry = target.registry
        if registry.name not in self._tried or isinstance(registry, BlobSizes):  # which is asked for all at once
            return []
        content = manifest.content()
        if not isinstance(content, Manifest) or not isinstance(registry, CountsRequests):  # a folder answers at once
            return []
        vouched = []
        for blob in (content.config, *content.layers):
            if blob.digest not in sent or blob.digest == EMPTY.digest:  # which registries may know without looking
                continue
            kind = (registry.name, manifest.media_type, blob is content.config, blob.media_type)
            if self._looks.get(kind, partial(self._try, target, manifest, content, blob)):
                vouched.append(blob)
        return vouched

    def _try(self, target: Place, manifest: ManifestBytes, content: Manifest, blob: Descriptor) -> bool:
        """Whether the target refuses the manifest without this blob."""
        registry, repository = target.registry, target.repository
        tried = self._tried.get(registry.name, MAX_KINDS)
        if tried >= MAX_KINDS:
            return False
        self._tried[registry.name] = tried + 1
        raw = encode_json(_without(content, blob))
        twin = ManifestBytes(raw, manifest.media_type, Digest.of(raw))
        try:
            registry.put_manifest(repository, twin)
        except (NotFound, Refused) as error:
            return error.code in _UNKNOWN_BLOB
        except RegistryPipelinesError:
            return False
        self._tried.pop(registry.name, None)
        with contextlib.suppress(RegistryPipelinesError):  # it has no tag; a collection of garbage finds it
            registry.delete_manifest(repository, twin.digest)
        return False


def _without(content: Manifest, blob: Descriptor) -> Manifest:
    """The same with a blob that nobody has in its place, and not listed as anybody's referrer."""
    other = msgspec.structs.replace(blob, digest=NOBODYS)
    if blob is content.config:
        return msgspec.structs.replace(content, config=other, subject=None)
    layers = tuple(other if item is blob else item for item in content.layers)
    return msgspec.structs.replace(content, layers=layers, subject=None)
