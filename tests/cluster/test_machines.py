"""What `make cluster` says before it starts anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.cluster.machines import Cluster, NotReady
from tests.needs import missing

TOP = Path(__file__).parents[2]


@pytest.mark.usefixtures("cluster_programs")
def test_a_folder_that_postgres_cannot_enter_is_named(cluster_folder: Path) -> None:
    """Of root's cluster alone: somebody else's Postgres runs as that user."""
    if os.getuid():
        missing("only root's Postgres runs as somebody else")
    closed = cluster_folder / "closed"
    closed.mkdir(mode=0o700)
    with (
        pytest.raises(NotReady, match=r"closed is closed to other users, and Postgres.* name another one"),
        Cluster(TOP / "deploy" / "demo" / "registry-pipelines.yaml", closed / "machines"),
    ):
        pass
