"""What `make cluster` says before it starts anything."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from deploy.cluster.machines import Cluster, NotReady
from deploy.cluster.needs import HOST
from deploy.cluster.run import refuse_taken_ports
from registry_pipelines.errors import PortTaken
from tests.needs import missing
from tests.ports import free_ports

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


def test_what_listens_where_a_registry_would_is_named_before_anything_starts(tmp_path: Path) -> None:
    config, (ui, port) = tmp_path / "registry-pipelines.yaml", free_ports(2)
    with socket.create_server((HOST, port)):
        config.write_text(f"registries: {{here: {{kind: embedded, port: {port}}}}}\n")
        with pytest.raises(PortTaken, match=rf"{port} \(registry here\): another program listens there"):
            refuse_taken_ports(config, ui)
    refuse_taken_ports(config, ui)
    with socket.create_server((HOST, ui)), pytest.raises(PortTaken, match="the UI"):
        refuse_taken_ports(config, ui)
