"""Any registry of the distribution protocol, and layout folders: what tags, indexes and referrers lead to.

The protocol lists tags alone. It tells neither when something was pushed nor pulled, and nothing of manifests that
nothing leads to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from registry_pipelines.inventory.parts import Parts, RepositoryFacts
from registry_pipelines.inventory.reader import made_row
from registry_pipelines.inventory.rows import Row
from registry_pipelines.inventory.survey import Node, Survey, survey
from registry_pipelines.inventory.value import now
from registry_pipelines.registry.protocol import Place, Registry

NOTES = (
    "the distribution protocol tells no times of pushes and pulls, and nothing of manifests that no tag, index or "
    "referrer leads to",
)


class SurveyReader:
    """A registry as ``collect`` reads it. See :class:`~registry_pipelines.inventory.reader.Reader`."""

    notes: Sequence[str] = NOTES

    def __init__(self, registry: str, kind: str, opened: Registry) -> None:
        self._registry, self.kind, self._opened = registry, kind, opened
        self._read = 0
        self.facts: dict[str, RepositoryFacts] = {}

    def repositories(self) -> Iterator[str]:
        """See Reader."""
        return self._opened.repositories()

    def images(self, repository: str) -> Iterator[Row]:
        """See Reader. size_bytes: with config and layers; of an index the manifest alone."""
        found = survey(Place(self._opened, repository))
        self.facts[repository] = RepositoryFacts(found.keeps_tagged, tuple(sorted(found.unreadable)))
        yield from survey_rows(self._registry, found, now())
        self._read += len(found.nodes) + len(found.tags)

    def calls(self) -> int:
        """Manifests and tags that were read; requests are counted by the client."""
        return self._read


def survey_rows(registry: str, found: Survey, answered: datetime) -> Iterator[Row]:
    """A survey as rows of an inventory."""
    tags: dict[str, list[str]] = {}
    for tag, digest in found.tags.items():
        tags.setdefault(digest, []).append(tag)
    made = made_row(registry, found.repository, answered)
    for digest, node in found.nodes.items():
        yield made(
            digest,
            tags=sorted(tags.get(digest, ())),
            size_bytes=sum(node.blobs.values()),
            layers=node.layers,
            media_type=node.media_type,
            artifact_type=node.artifact_type,
            subject=node.subject or "",
            children=node.children,
            created=node.created,
            pushed=node.pushed,
            parts=Parts(node.blobs, _claims(found, node), node.is_list),
        )


def _claims(found: Survey, node: Node) -> list[str]:
    """What a list names wrongly: the rest of its referrers say so themselves."""
    return [one for one in node.referrers if found.nodes[one].subject != node.digest]
