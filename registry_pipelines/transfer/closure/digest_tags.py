"""Tags named after digests: lists of referrers, cosign's signatures, and ordinary tags that only look like them.

``sha256-<hex>`` is where clients keep a list of referrers (distribution-spec 1.1, "Referrers Tag Schema"), and what
oc-mirror v2 calls an image that was named by its digest (oc-mirror#981). Only what it names tells. ``.sig``, ``.att``
and ``.sbom`` behind it are cosign's (cosign specs/SIGNATURE_SPEC.md, "Storage"); other suffixes are anybody's
(Carvel's ``.imgpkg``), and nobody brings those but who asks for the tag.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future

import msgspec

from registry_pipelines.errors import Forbidden, ManifestInvalid, ManifestTooLarge, NotFound, Refused, Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.referrers import NO_LIST, ReferrerList, read_fallback
from registry_pipelines.registry.protocol import Place
from registry_pipelines.threads import Pool

COSIGN_SUFFIXES = (".sig", ".att", ".sbom")
"""Suffixes of cosign's digest tags."""

CUT_LISTS = (100, 1000)
"""Tags in a list that some registries end there, without a ``Link`` to more: the usual pages."""

MAX_TAG_CHARACTERS = 128
"""Distribution-spec 1.1, "Pulling manifests"."""

READ_THREADS = 16
"""Tags read at once; small requests, so latency counts."""

_DIGEST = r"(?:sha256-[0-9a-f]{64}|sha512-[0-9a-f]{64,128})"
_LIST = re.compile(rf"{_DIGEST}\Z")
_SIGNATURE = re.compile(rf"{_DIGEST}(?:{'|'.join(map(re.escape, COSIGN_SUFFIXES))})\Z")
_NAMED_AFTER = re.compile(rf"{_DIGEST}(?:\.\w+)?\Z")


def is_named_after_digest(tag: str) -> bool:
    """Whether a tag looks like ``sha256-<hex>``, with any suffix: it says nothing about a version."""
    return bool(_NAMED_AFTER.match(tag))


class Chosen(msgspec.Struct, frozen=True):
    """Tags that were chosen, and those named after digests that are not tags by themselves."""

    tags: Sequence[str]
    passed_over: Sequence[str]


class DigestTags:
    """The tags of one repository that are named after digests. What one of them names is read when it is first asked
    for, and once: who chooses tags and who looks for referrers share the answer. For many threads.

    names: None when they are not known, because the registry lists no tags or the list may be cut; then any may be
    there.
    """

    def __init__(self, place: Place, names: Iterable[str] | None) -> None:
        self.place = place
        self.names = None if names is None else frozenset(names)
        self._lists: dict[str, Future[ReferrerList]] = {}
        self._guard = threading.Lock()
        self._ordinary: set[str] = set()

    @classmethod
    def among(cls, place: Place, tags: Iterable[str]) -> DigestTags:
        """Those of all tags of a repository."""
        every = list(tags)
        return cls(place, None if len(every) in CUT_LISTS else filter(is_named_after_digest, every))

    @classmethod
    def of(cls, place: Place) -> DigestTags:
        """Those of a repository that is there; unknown ones where tags cannot be listed."""
        try:
            return cls.among(place, place.registry.tags(place.repository))
        except (Unsupported, Forbidden, Refused):
            return cls(place, None)
        except NotFound as error:
            # docker-registry says NAME_UNKNOWN of repositories without tags. Any other 404 may be a registry without
            # lists, such as files behind a web server, and then a signature under a tag would be overlooked.
            return cls(place, [] if error.code == "NAME_UNKNOWN" else None)

    def list_of(self, subject: Digest) -> ReferrerList:
        """What is where the list of a manifest's referrers would be. Raises RegistryError."""
        tag = subject.fallback_tag
        if self.names is not None and tag not in self.names:
            return NO_LIST
        tag_list = self._read(tag)
        return NO_LIST if tag_list.refused and self.names is None and tag_list.itself else tag_list

    def is_told(self, tag: str) -> bool:
        """Whether it is told already what becomes of a tag, because it was chosen as an ordinary one."""
        return tag in self._ordinary

    def signatures(self, subject: Digest) -> dict[str, Descriptor]:
        """cosign's tags of a manifest, with what they name. Raises RegistryError."""
        signatures = {}
        for tag in self._cosign_tags(subject):
            try:
                signatures[tag] = self.place.registry.resolve(self.place.repository, tag)
            except NotFound:
                continue
            except Refused as error:
                # Nobody listed it, and a registry that takes it for a broken digest (as GitLab may) has no such tag.
                if error.status != 400 or tag in (self.names or ()):
                    raise
        return signatures

    def _cosign_tags(self, subject: Digest) -> list[str]:
        names = [f"{subject.algorithm}-{subject.hex}{suffix}" for suffix in COSIGN_SUFFIXES]
        if self.names is None:  # of a SHA-512 they are longer than a tag may be, so nobody has them
            return [name for name in names if len(name) <= MAX_TAG_CHARACTERS]
        return [name for name in names if name in self.names]

    def choose(self, every: Iterable[str], select: Callable[[Iterable[str]], list[str]]) -> Chosen:
        """What ``select`` takes of a repository's tags, without those that travel with what they belong to. A tag that
        looks like a list is read only when it would be taken. Raises RegistryError."""
        tags: list[str] = []
        signatures: list[str] = []
        lists: list[str] = []
        for tag in every:
            (signatures if _SIGNATURE.match(tag) else tags).append(tag)
        while True:
            chosen = select(tags)
            doubtful = [tag for tag in chosen if _LIST.match(tag) and tag not in self._ordinary]
            if not doubtful:
                return Chosen(chosen, [*lists, *signatures])
            with Pool(READ_THREADS, "tags") as pool:
                contents = list(pool.map(self._read, doubtful))
            self._ordinary |= {tag for tag, content in zip(doubtful, contents, strict=True) if content.ordinary}
            lists += [tag for tag in doubtful if tag not in self._ordinary]
            left = set(lists)
            tags = [tag for tag in tags if tag not in left]

    def _read(self, tag: str) -> ReferrerList:
        with self._guard:
            answer = self._lists.get(tag)
            mine = answer is None
            answer = answer or self._lists.setdefault(tag, Future())
        if mine:
            try:
                answer.set_result(self._ask(tag))
            except BaseException as error:
                with self._guard:
                    del self._lists[tag]  # a failure is not kept
                answer.set_exception(error)
                raise
        return answer.result()

    def _ask(self, tag: str) -> ReferrerList:
        try:
            return read_fallback(self.place.registry.get_manifest(self.place.repository, tag), tag)
        except NotFound:
            return NO_LIST
        except (ManifestInvalid, ManifestTooLarge) as error:
            return ReferrerList(refused=f"it cannot be read: {error.what}")


__all__ = ["COSIGN_SUFFIXES", "CUT_LISTS", "Chosen", "DigestTags", "is_named_after_digest"]
