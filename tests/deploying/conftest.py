from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.deploying.kubernetes import Workload
from registry_pipelines.inventory.usage.kube_access import by_kubeconfig
from registry_pipelines.inventory.usage.kube_api import KubeApi
from tests.chain.fleet import Fleet, start
from tests.deploying.parts import QUICK, TOKEN, WEB, Opener, kubeconfig
from tests.doubles.certificates import Certificates, make_certificates
from tests.doubles.kube_workloads import WorkloadCluster, moving


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), "kubernetes.default")


@pytest.fixture
def cluster(certificates: Certificates) -> Iterator[WorkloadCluster]:
    with moving(WorkloadCluster(token=TOKEN), certificates) as double:
        yield double


@pytest.fixture
def config(cluster: WorkloadCluster, certificates: Certificates, tmp_path: Path) -> Path:
    return kubeconfig(tmp_path, cluster, certificates)


@pytest.fixture
def workload(config: Path) -> Iterator[Opener]:
    with ExitStack() as stack:

        def opened(key: tuple[str, str, str] = WEB, container: str = "", **more: Any) -> Workload:
            api = KubeApi(by_kubeconfig(config), retries=QUICK, **more)
            kind = key[0].removesuffix("s")
            made = Workload(api, namespace=key[1], kind=kind, name=key[2], container=container)
            stack.callback(made.close)
            return made

        yield opened


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield start(tmp_path, stack)
