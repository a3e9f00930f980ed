"""Where something is being pushed: open uploads, as our journal and the folders of registries that are here tell them.

Other registries list no uploads. What is pushed last is the manifest or the index with the tag; what belongs to it is
there before, and nothing leads to it yet.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from registry_pipelines.chain.session import Session
from registry_pipelines.progress import age_text
from registry_pipelines.transfer.blob.sinks import ABANDONED_S, JOURNAL_FILE


def uploading(session: Session, registry: str) -> dict[str, str]:
    """Repositories of a registry with an open upload that somebody came back to within a day, each with who says so.
    Raises LocalError for a journal that cannot be read, or a folder."""
    found = {name: f"an upload is open there ({age_text(age)} ago)" for name, age in _in_folder(session, registry)}
    opened = session.places.registry(registry).name
    return found | {name: f"a copy to it is under way ({age_text(age)} ago)" for name, age in _copies(session, opened)}


def _copies(session: Session, host: str) -> Iterator[tuple[str, float]]:
    folder = session.config.state / "transfer"
    if not session.shared and not (folder / JOURNAL_FILE).exists():
        return
    from registry_pipelines.transfer.blob.journal import Journal

    with contextlib.closing(Journal.on(session.shared) if session.shared else Journal.at(folder)) as journal:
        for repository, updated_at in journal.open_uploads(host).items():
            age = time.time() - updated_at
            if age < ABANDONED_S:
                yield repository, age


def _in_folder(session: Session, registry: str) -> Iterator[tuple[str, float]]:
    settings = session.config.registries[registry]
    root: Path | None = None
    if settings.kind == "embedded" and not session.config.served_by:
        root = session.config.root(settings)
    elif settings.kind == "layout":
        root = settings.root
    if root is None or not root.is_dir():
        return
    from registry_pipelines.oci.files import local_errors
    from registry_pipelines.registry.embedded.storage import Store
    from registry_pipelines.registry.embedded.uploads import open_sessions

    with local_errors(root):
        store = Store(root)
        for repository in store.repositories():
            ages = [time.time() - used for used in open_sessions(store.layout(repository))]
            if any(age < ABANDONED_S for age in ages):
                yield repository, min(ages)


__all__ = ["uploading"]
