"""What a registry's own list of images knows beside what tags lead to: pushes, and images without a tag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from registry_pipelines.inventory.survey import UNREAD_INDEX, Survey
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest

if TYPE_CHECKING:  # only who has such a list brings its tables
    from registry_pipelines.inventory.value import Inventory


class Lists:
    """A registry's list (an inventory of it alone), by repository. Without one nothing is known."""

    def __init__(self, listed: Inventory | None) -> None:
        self._pushed: dict[str, dict[Digest, datetime]] = {}
        self._untagged: dict[str, list[Digest]] = {}
        self._unread: set[str] = set()
        for row in listed.table().select(_COLUMNS).to_pylist() if listed is not None else ():
            digest = Digest.parse(row["digest"])
            if row["pushed"] is not None:
                self._pushed.setdefault(row["repository"], {})[digest] = row["pushed"]
            if not row["tags"]:
                self._untagged.setdefault(row["repository"], []).append(digest)
            if row["media_type"] in media_types.INDEXES and row["children"] is None:
                self._unread.add(row["repository"])

    def untagged(self, repository: str) -> Sequence[Digest]:
        """Manifests without a tag: of indexes, referrers, and such as nothing leads to."""
        return self._untagged.get(repository, ())

    def dated(self, survey: Survey) -> Survey:
        """A survey with the times of pushes, and whether what has no tag may be listed by an index nobody can read."""
        pushed: Mapping[Digest, datetime] = self._pushed.get(survey.repository, {})
        unlisted = UNREAD_INDEX if survey.repository in self._unread else ""
        if not pushed:
            return replace(survey, unlisted=unlisted) if unlisted else survey
        nodes = {digest: replace(node, pushed=pushed.get(digest)) for digest, node in survey.nodes.items()}
        return replace(survey, nodes=nodes, unlisted=unlisted)


_COLUMNS = ["repository", "digest", "tags", "media_type", "children", "pushed"]
