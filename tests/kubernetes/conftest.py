"""A real API server of Kubernetes with its controllers, made once for all tests of this room, and one of before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PEERS
from tests.doubles.kubernetes import Cluster, running
from tests.needs import missing

NEW = ("etcd", "kube-apiserver", "kube-controller-manager")


def found(*names: str, folder: str = "kubernetes") -> dict[str, Path]:
    programs = {name: PEERS.parent / folder / name for name in names}
    if absent := [name for name, path in programs.items() if not path.exists()]:
        missing(
            f"{', '.join(absent)} of {folder} is not built (.ci/build-kubernetes builds it, in a quarter of an hour)"
        )
    return programs


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(found(*NEW), tmp_path_factory.mktemp("kubernetes")) as started:
        yield started


@pytest.fixture(scope="session")
def older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Kubernetes 1.34, the API alone."""
    programs = {**found("etcd"), **found("kube-apiserver", folder="kubernetes1.34")}
    with running(programs, tmp_path_factory.mktemp("older"), controllers=False) as started:
        started.make({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}, "default")
        yield started


@pytest.fixture
def shop(cluster: Cluster) -> Iterator[str]:
    """A namespace of its own."""
    made = cluster.ask("POST", "/api/v1/namespaces", {"metadata": {"generateName": "shop-"}})
    cluster.broken.clear()
    cluster.warnings.clear()
    yield made["metadata"]["name"]
    cluster.ask("DELETE", f"/api/v1/namespaces/{made['metadata']['name']}")
