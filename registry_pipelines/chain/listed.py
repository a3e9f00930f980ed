"""What retention asks a cloud beside its tags: its own list of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from registry_pipelines.chain.session import Session
from registry_pipelines.collect.rules import RetentionRule
from registry_pipelines.errors import Unavailable

if TYPE_CHECKING:  # tables are heavy, and few rules need them
    from registry_pipelines.inventory.value import Inventory


def listed_images(session: Session, registry: str, rules: Sequence[RetentionRule]) -> Inventory | None:
    """The list of a registry in a cloud, where a rule speaks of what only that knows: images without a tag, and pushes,
    which a cloud's policy counts from. None elsewhere. Raises ToolMissing, RegistryError; Unavailable where the list is
    not whole: of a list that broke off, a rule that counts keeps more than it should, and an orphan may be none."""
    from registry_pipelines.chain.inventory import CLOUDS, read

    needs = any(
        rule.policy is not None or rule.untagged_days is not None or rule.orphans_days is not None for rule in rules
    )
    if not needs or session.config.registries[registry].kind not in CLOUDS:
        return None
    found = read(session, [registry])
    if not found.complete:
        [source] = found.sources
        raise Unavailable(
            f"the list of images is not whole: {source.unread[0].what}: {source.unread[0].problem}",
            where=registry,
            do="Plan again when the registry tells all; nothing is deleted until then",
        )
    return found
