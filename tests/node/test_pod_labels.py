"""What whoever makes a pod can have said to the snapshotter: containerd gives it the pod's annotations as labels."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from registry_pipelines.node.lazy_images import IMAGE_LABEL, MANIFEST_LABEL, REF_LABEL
from tests.evidence.parts import Counted, Key
from tests.node.agent import NAME
from tests.node.pods import SYSTEM, TWO
from tests.node.test_cri import ready
from tests.node.test_images import chain
from tests.stream.releases import Streamer


@pytest.mark.long
@pytest.mark.parametrize("programs", [SYSTEM, TWO])
def test_no_pod_brings_layers_of_an_image_that_it_may_not_pull(
    counted: Counted, streamer: Streamer, key: Key, peer: Callable[[str], str], programs: tuple[str, str]
) -> None:
    """They would be there for an image of anybody who claims the same layers, read with the node's account."""
    with ready(counted, streamer, key, peer, programs, annotations=True) as node:
        release = counted.place.registry.resolve(counted.place.repository, "v1")
        for chain_id in chain(counted.place, release):
            told = {REF_LABEL: chain_id, IMAGE_LABEL: node.image, MANIFEST_LABEL: str(release.digest)}
            with node.kubelet.cri.pod(annotations=told):
                asked = ("--namespace", "k8s.io", "snapshots", "--snapshotter", NAME)
                listed = node.kubelet.ctr(*asked, "ls")
                assert chain_id not in listed, listed
                [own] = [row.split()[0] for row in listed.splitlines() if row.split()[-1] == "Active"]
                assert json.loads(node.kubelet.ctr(*asked, "info", own))["Labels"] == told, "they came to the agent"
        assert "is served" not in node.kubelet.agent.said()
