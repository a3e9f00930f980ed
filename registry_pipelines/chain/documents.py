"""Where a configuration keeps the documents of its state."""

from __future__ import annotations

from registry_pipelines.config import Config
from registry_pipelines.shared.documents import Documents, FolderDocuments


def documents_of(config: Config) -> Documents:
    """Those of the state folder, or of the database that workers share; nothing is asked yet. Raises as
    ``SharedState.database`` where they are shared."""
    if not config.shared.database:
        return FolderDocuments(config.state)
    from registry_pipelines.chain.shared import shared_of  # one machine needs none

    shared = shared_of(config)
    return shared.documents(config.state) if shared else FolderDocuments(config.state)


__all__ = ["documents_of"]
