"""The tags of a repository as collection needs them: what a manifest is called, and what is named after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from registry_pipelines.inventory.survey import companion_of
from registry_pipelines.oci.digest import Digest


class Names:
    """The tags of a repository, looked up in both directions."""

    def __init__(self, tags: Mapping[str, Digest]) -> None:
        self.tags = tags
        self._of: dict[Digest, set[str]] = {}
        self._beside: dict[str, list[str]] = {}
        for tag, digest in tags.items():
            self._of.setdefault(digest, set()).add(tag)
            if subject := companion_of(tag):
                self._beside.setdefault(subject, []).append(tag)

    def of(self, digests: Iterable[Digest]) -> set[str]:
        """All tags of these manifests."""
        return {tag for digest in digests for tag in self._of.get(digest, ())}

    def beside(self, digest: Digest) -> list[str]:
        """The tags that are named after a manifest: cosign's, and that of the list of its referrers."""
        return self._beside.get(digest.fallback_tag, [])

    def about(self, digest: Digest) -> list[Digest]:
        """What cosign's tags for a manifest name."""
        return [self.tags[tag] for tag in self.beside(digest) if tag != digest.fallback_tag]

    def lists(self, digests: Iterable[Digest]) -> list[tuple[str, Digest]]:
        """Those of the manifests that a tag of a list names, with it."""
        return [(tag, digest) for digest in digests for tag in self._of.get(digest, ()) if companion_of(tag) == tag]

    def lists_about(self, digests: Iterable[Digest]) -> list[tuple[str, Digest]]:
        """The tags of lists that are named after these manifests, with what they name."""
        tags = (digest.fallback_tag for digest in digests)
        return [(tag, self.tags[tag]) for tag in tags if tag in self.tags]
