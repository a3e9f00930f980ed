"""What comes from a cluster is read, or refused in our words: any bytes, any object."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import ContentError, ManifestInvalid
from registry_pipelines.inventory.usage.workloads import CONTAINERS, POD_SPECS, images_of
from registry_pipelines.promote.admission.review import ObjectKind, PatchStep, read_review, write_answer
from tests.promote.admission.workload_objects import pod

NAMES = st.sampled_from(
    ["spec", "template", "containers", "initContainers", "volumes", "image", "reference", "name", "x"]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=25,
)
KINDS = st.sampled_from([*POD_SPECS, ("example.com", "Model"), ("", "ConfigMap")])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_review_or_refused(raw: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        read_review(raw)


@given(VALUES, VALUES)
def test_any_document_is_a_review_or_refused(request: Any, old: Any) -> None:
    document = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    if isinstance(request, dict):
        request |= {"uid": "u", "kind": {"kind": "Pod"}, "operation": "CREATE", "object": old}
    try:
        read = read_review(json.dumps(document).encode())
    except ManifestInvalid:
        return
    assert read.uid == "u" and read.kind.kind == "Pod"


@given(KINDS, st.dictionaries(NAMES, VALUES, max_size=4))
def test_of_any_object_every_image_is_found_or_it_is_refused(kind: tuple[str, str], content: dict[str, Any]) -> None:
    group, name = kind
    try:
        found = images_of(ObjectKind(group, "v1", name), content)
    except ContentError:
        return
    for each in found:
        value: Any = content
        for part in each.pointer.split("/")[1:]:
            value = value[int(part)] if isinstance(value, list) else value[part]
        assert value == each.image


@given(st.lists(st.tuples(st.sampled_from(sorted(CONTAINERS)), st.text(min_size=1, max_size=20)), max_size=6))
def test_no_container_is_passed_over(wanted: list[tuple[str, str]]) -> None:
    spec: dict[str, Any] = {}
    for number, (where, image) in enumerate(wanted):
        spec.setdefault(where, []).append({"name": f"c{number}", "image": image})
    found = images_of(ObjectKind("", "v1", "Pod"), {"kind": "Pod", "spec": spec})
    assert sorted(each.image for each in found) == sorted(image for _, image in wanted)
    assert len({each.key for each in found}) == len(wanted)


def test_an_object_is_bounded_in_images_and_depth() -> None:
    with pytest.raises(ManifestInvalid, match="2049 images"):
        images_of(ObjectKind("", "v1", "Pod"), pod(*["a:1"] * 2049))
    deep: dict[str, Any] = pod("a:1")
    for _ in range(70):
        deep = {"x": deep}
    with pytest.raises(ManifestInvalid, match="deeper than 64"):
        images_of(ObjectKind("example.com", "v1", "Model"), deep)
    with pytest.raises(ManifestInvalid):
        read_review(b'{"apiVersion":' * 5000)


def test_an_answer_keeps_to_what_api_servers_take() -> None:
    told = json.loads(write_answer("u", allowed=True, warnings=["w" * 1000] + [str(each) for each in range(40)]))
    warnings = told["response"]["warnings"]
    assert len(warnings) == 16 and max(map(len, warnings)) == 240
    assert "patch" not in told["response"] and "status" not in told["response"]
    patched = json.loads(write_answer("u", allowed=True, patch=[PatchStep("/spec/containers/0/image", "a@b")]))
    assert patched["response"]["patchType"] == "JSONPatch"
