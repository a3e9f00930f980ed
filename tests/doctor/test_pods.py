"""From a saved pod, its events and its node to the answer; by kubectl where a program of that name is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.cli import main
from registry_pipelines.doctor.nodes import Node, node_answers, read_node, room_answer
from registry_pipelines.doctor.pods import failed_pulls, read_objects
from registry_pipelines.errors import RegistryPipelinesError
from tests.answers import answered

ECR = "111122223333.dkr.ecr.eu-west-1.amazonaws.com"
IMAGE = f"{ECR}/ml/app:1"
DENIED = (
    f'Failed to pull image "{IMAGE}": failed to pull and unpack image "{IMAGE}": failed to resolve reference '
    f'"{IMAGE}": '
    "pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth "
    "credentials"
)


def pod(message: str, *, reason: str = "ImagePullBackOff", role: str = "") -> dict[str, Any]:
    env = [{"name": "AWS_ROLE_ARN", "value": role}] if role else []
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "app-1", "namespace": "ml"},
        "spec": {"nodeName": "ip-10-0-1-2", "containers": [{"name": "app", "image": IMAGE, "env": env}]},
        "status": {
            "phase": "Pending",
            "containerStatuses": [
                {"name": "app", "image": IMAGE, "state": {"waiting": {"reason": reason, "message": message}}},
                {"name": "ready", "image": "busybox", "state": {"running": {}}},
            ],
        },
    }


def node(*, region: str = "eu-west-1", pressure: str = "False") -> dict[str, Any]:
    return {
        "kind": "Node",
        "metadata": {"name": "ip-10-0-1-2", "labels": {"topology.kubernetes.io/region": region}},
        "spec": {"providerID": f"aws:///{region}a/i-0123456789abcdef0"},
        "status": {
            "allocatable": {"ephemeral-storage": "18242267924"},
            "nodeInfo": {
                "architecture": "arm64",
                "operatingSystem": "linux",
                "containerRuntimeVersion": "containerd://1.7.11",
                "kubeletVersion": "v1.31.2",
            },
            "conditions": [
                {"type": "Ready", "status": "True"},
                {"type": "DiskPressure", "status": pressure, "message": "kubelet has disk pressure"},
            ],
        },
    }


def event(message: str, *, at: str) -> dict[str, Any]:
    return {
        "kind": "Event",
        "involvedObject": {"name": "app-1", "namespace": "ml"},
        "message": message,
        "lastTimestamp": at,
    }


def listed(*items: dict[str, Any]) -> bytes:
    return json.dumps({"kind": "List", "apiVersion": "v1", "items": list(items)}).encode()


def test_a_pod_with_its_message() -> None:
    (found,) = failed_pulls(read_objects(json.dumps(pod(DENIED)).encode(), where="pod.json"))
    assert (found.image, found.reason, found.kubelet) == (IMAGE, "ImagePullBackOff", True)
    assert "no basic auth" in found.message


def test_older_kubelets_say_it_in_the_last_event_alone() -> None:
    silent = pod(f'Back-off pulling image "{IMAGE}"')
    events = [
        event(DENIED.replace("no basic auth credentials", "an older reason"), at="2026-11-28T09:00:00Z"),
        event(DENIED, at="2026-11-28T10:00:00Z"),
        event(f'Back-off pulling image "{IMAGE}"', at="2026-11-28T11:00:00Z"),
    ]
    (found,) = failed_pulls(read_objects(listed(silent, *events, node()), where="pod.json"))
    assert found.message == DENIED
    assert (found.platform, found.node_region, found.instance) == ("linux/arm64", "eu-west-1", "i-0123456789abcdef0")


def test_a_list_of_pods_has_items_without_kind() -> None:
    item = {key: value for key, value in pod(DENIED).items() if key != "kind"}
    raw = json.dumps({"kind": "PodList", "items": [item]}).encode()
    assert len(failed_pulls(read_objects(raw, where="pods.json"))) == 1


def test_the_command_says_whose_role_pulls(tmp_path: Path) -> None:
    role = "arn:aws:iam::111122223333:role/app"
    (tmp_path / "pod.json").write_bytes(listed(pod(DENIED, role=role), node(region="us-east-1")))
    ran = CliRunner().invoke(main, ["doctor", "--pod", str(tmp_path / "pod.json")], env={"COLUMNS": "300"})
    assert ran.exit_code == 0, ran.output
    for words in ("cause: no-credentials", "ecr-credential-provider", "i-0123456789abcdef0", "cause" + ": "):
        assert words in ran.output
    assert f"the pod's own role ({role}) does not pull: the kubelet uses the node's" in ran.output
    assert "the node is in us-east-1" in ran.output
    assert "note: far-away" in ran.output


def test_disk_pressure_of_the_node_is_a_cause_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "all.json"
    file.write_bytes(listed(pod("no words", reason="ErrImagePull"), node(pressure="True")))
    ran = CliRunner().invoke(main, ["doctor", str(file), "--json"])
    found = answered(ran.stdout)["diagnoses"]
    assert ran.exit_code == 7
    assert [[each["cause"] for each in one["answers"]] for one in found] == [["unknown", "disk-full"], ["disk-full"]]
    assert "kubelet has disk pressure" in found[1]["answers"][0]["evidence"]


@pytest.mark.parametrize(("reason", "cause"), [("ErrImageNeverPull", "never-pull"), ("InvalidImageName", "bad-name")])
def test_a_reason_without_words(reason: str, cause: str, tmp_path: Path) -> None:
    (tmp_path / "pod.json").write_bytes(listed(pod("", reason=reason)))
    ran = CliRunner().invoke(main, ["doctor", "--pod", str(tmp_path / "pod.json"), "--json"])
    assert answered(ran.stdout)["diagnoses"][0]["answers"][0]["cause"] == cause


def test_an_image_that_is_larger_than_the_disk() -> None:
    there = read_node(node())
    large = room_answer(there, 20 * 10**9)
    tight = room_answer(there, 8 * 10**9)
    assert large is not None
    assert (large.cause, large.note) == ("disk-full", False)
    assert tight is not None
    assert tight.note
    assert room_answer(there, 10**9) is None
    assert room_answer(Node(), 10**12) is None


def test_what_google_says_of_a_node() -> None:
    found = read_node({"spec": {"providerID": "gce://ml-prod/europe-west1-b/gke-node-1"}, "status": []})
    assert (found.cloud, found.region, found.instance) == ("gcp", "europe-west1", "gke-node-1")
    assert node_answers(found) == []


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"kind": "List", "items": [1, null]}', b'{"kind": "Service"}'])
def test_what_is_no_pod(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(raw)
    ran = CliRunner().invoke(main, ["doctor", "--pod", str(tmp_path / "x.json")])
    assert ran.exit_code == 8
    assert "kubectl get pod NAME -o json" in ran.stderr


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    key=st.sampled_from(["metadata", "spec", "status"]), value=JSON, kind=st.sampled_from(["Pod", "Node", "List", ""])
)
def test_odd_objects_break_nothing(key: str, value: object, kind: str) -> None:
    odd = {**(pod(DENIED) if kind != "Node" else node()), key: value, "kind": kind}
    try:
        cluster = read_objects(listed(odd, node()), where="x")
    except RegistryPipelinesError:
        return
    failed_pulls(cluster)
    for each in cluster.nodes:
        node_answers(each)


def test_kubectl_is_asked_for_pod_events_and_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = pod(f'Back-off pulling image "{IMAGE}"')
    answers = {"pod": silent, "events": json.loads(listed(event(DENIED, at="2026-11-28T10:00:00Z"))), "node": node()}
    for name, document in answers.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    program = tmp_path / "kubectl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncat {tmp_path}/$2.json\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    ran = CliRunner().invoke(main, ["doctor", "--pod", "ml/app-1", "--json"])
    assert answered(ran.stdout)["diagnoses"][0]["answers"][0]["cause"] == "no-credentials"
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0] == "get pod app-1 --namespace ml --output json"
    assert "involvedObject.name=app-1" in asked[1]
    assert asked[2].startswith("get node ip-10-0-1-2")


def test_without_kubectl_a_file_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = CliRunner().invoke(main, ["doctor", "--pod", "app-1"])
    assert ran.exit_code == 9
    assert "kubectl get pod NAME -o json > pod.json" in ran.stderr
