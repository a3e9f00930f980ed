"""The webhook over a real fleet: what its API server makes, and what it refuses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet, free_ports, push, start, write_advisory
from tests.doubles.api_server import Answered, ApiServer, WebhookFailed
from tests.doubles.certificates import Certificates, make_certificates
from tests.promote.admission.workload_objects import IMAGES, KINDS, pod, pod_spec, volume, workload

APPROVED = "registry.k8s.io"
CONTROLLER = f"{APPROVED}/ingress/controller@sha256:{'a' * 64}"


@dataclass
class Cluster:
    """A fleet with one promoted release, one that is allowed, and one that is denied; and an API server before it."""

    fleet: Fleet
    certificates: Certificates
    good: Release
    waiting: Release
    evil: Release

    def place(self, where: str = "us") -> Place:
        chain = self.fleet.chain
        return chain.place("app") if where == "us" else chain.target_place("app", where)

    def name(self, release: Release, where: str = "us") -> str:
        """By digest."""
        return f"{self.place(where)}@{release.digest}"

    def tagged(self, tag: str, where: str = "us") -> str:
        return f"{self.place(where)}:{tag}"


def settings(certificates: Certificates, **more: str) -> str:
    lines = {
        "host": "127.0.0.1",
        "port": str(free_ports(1)[0]),
        "tls_cert": str(certificates.certificate),
        "tls_key": str(certificates.key),
        "ca_file": str(certificates.ca),
        "approved": f"[{{images: {APPROVED}, reason: the cluster's own}}]",
        **more,
    }
    return "admission:\n" + "".join(f"  {name}: {value}\n" for name, value in lines.items())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with ExitStack() as stack:
        fleet = start(folder, stack)
        good, waiting = fleet.release("v1.0.0"), fleet.release("v1.1.0", package="otherwheel")
        evil = fleet.release("v2.0.0", package="badwheel")
        assert [fleet.judged(each) for each in (good, waiting, evil)] == [True, True, False]
        fleet.chain.promote(good)
        for target in ("eu", "gcp"):
            assert fleet.chain.replicate(good, target).ok
        assert fleet.chain.mirror_release(good, "airgap").ok
        yield Cluster(fleet, make_certificates(folder / "tls"), good, waiting, evil)


@pytest.fixture
def asked(cluster: Cluster) -> Iterator[Callable[..., ApiServer]]:
    """Starts the webhook with further settings, and gives an API server that asks it."""
    with ExitStack() as stack:

        def open_api(chain: Chain | None = None, **more: str) -> ApiServer:
            if chain is None:
                text = cluster.fleet.path.read_text()
                path = cluster.fleet.path.with_name("admission.yaml")
                path.write_text(text + settings(cluster.certificates, **more))
                from registry_pipelines.config import load

                chain = Chain(load(path, {}))
            server = stack.enter_context(stack.enter_context(chain.admission_webhook()))
            api = ApiServer(server.port, cluster.certificates.ca.read_bytes(), mutating="mutate" in more)
            stack.callback(api.close)
            return api

        yield open_api


@pytest.fixture
def api(asked: Callable[..., ApiServer]) -> ApiServer:
    return asked()


def refused(answered: Answered, code: str, *words: str) -> None:
    assert not answered.allowed and f"[{code}]" in answered.message, answered.message
    for word in words:
        assert word in answered.message


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_workload_is_judged(cluster: Cluster, api: ApiServer, kind: str) -> None:
    assert api.create(workload(kind, pod_spec(cluster.name(cluster.good)))).allowed
    refused(api.create(workload(kind, pod_spec(cluster.name(cluster.evil)))), "not-allowed", "badwheel")


@pytest.mark.parametrize("where", IMAGES)
def test_init_and_ephemeral_containers_are_judged_beside_good_ones(
    cluster: Cluster, api: ApiServer, where: str
) -> None:
    both = pod(cluster.name(cluster.good))
    both["spec"].setdefault(where, []).append({"name": "other", "image": cluster.name(cluster.evil)})
    answered = api.create(both)
    refused(answered, "not-allowed", "'other'", "badwheel")
    assert "'c0'" not in answered.message


def test_an_image_that_is_mounted_as_a_volume_is_judged(cluster: Cluster, api: ApiServer) -> None:
    assert api.create(volume(cluster.name(cluster.good))).allowed
    refused(api.create(volume(cluster.name(cluster.evil))), "not-allowed", "volume 'models'")


@pytest.mark.parametrize("where", ["us", "eu", "gcp"])
def test_a_release_starts_from_every_place_of_its_image_and_nothing_else_there(
    cluster: Cluster, api: ApiServer, where: str
) -> None:
    assert api.create(pod(cluster.name(cluster.good, where))).allowed
    refused(api.create(pod(cluster.name(cluster.evil, where))), "not-allowed")
    other = push(cluster.place(where), "v9.0.0", package="strange").digest  # whoever may push to a replica
    refused(api.create(pod(f"{cluster.place(where)}@{other}")), "not-allowed", "verdict: none")


def test_the_private_registry_behind_the_air_gap_is_a_place_too(cluster: Cluster, api: ApiServer) -> None:
    private = cluster.fleet.chain.mirror_places("app", "airgap")[-1]
    assert api.create(pod(f"{private}@{cluster.good.digest}")).allowed
    refused(api.create(pod(f"{private}@{cluster.waiting.digest}")), "not-promoted")


def test_what_is_allowed_and_not_promoted_does_not_start(cluster: Cluster, api: ApiServer) -> None:
    refused(api.create(pod(cluster.name(cluster.waiting))), "not-promoted", "no signed record puts prod on it")


@pytest.mark.parametrize(
    ("image", "code"),
    [
        ("{place}", "latest"),
        ("{place}:latest", "latest"),
        ("nginx", "latest"),
        ("nginx:1.29", "not-approved"),
        ("docker.io/library/nginx:1.29", "not-approved"),
        ("evil.example/registry.k8s.io/pause:3.10", "not-approved"),
        ("registry.k8s.io.evil.example/pause:3.10", "not-approved"),
        ("REGISTRY.K8S.IO.evil.example/pause:3.10", "not-approved"),
        ("{host}/team/other@sha256:" + "b" * 64, "not-approved"),
        ("{host}/team/app/more@sha256:" + "b" * 64, "not-approved"),
        ("{place}@sha256:" + "b" * 64, "not-allowed"),
        ("{place}:v7.7.7", "not-found"),
        ("{place}@sha256:beef", "no-reference"),
        ("{place}:v1.0.0 ", "no-reference"),
        ("", "no-reference"),
        ("a" * 100_000 + "!", "no-reference"),
        ("a." * 50_000 + "/" + "b-" * 50_000 + "!", "no-reference"),
    ],
)
def test_names_that_start_nothing(cluster: Cluster, api: ApiServer, image: str, code: str) -> None:
    """Also names at which a regular expression might work for hours."""
    place = cluster.place()
    refused(api.create(pod(image.format(place=place, host=place.registry.name))), code)


def test_approved_images_start_without_a_verdict(api: ApiServer) -> None:
    assert api.create(pod(CONTROLLER)).allowed
    assert api.create(pod("registry.k8s.io/pause:3.10")).allowed
    refused(api.create(pod("registry.k8s.io/pause")), "latest")


def test_a_tag_is_judged_by_what_it_names_now_and_the_user_is_warned(cluster: Cluster, api: ApiServer) -> None:
    answered = api.create(pod(cluster.tagged("v1.0.0")))
    assert answered.allowed and "name the digest" in answered.warnings[0]
    refused(api.create(pod(cluster.tagged("v2.0.0"))), "not-allowed", "badwheel")


def test_digests_can_be_required(cluster: Cluster, asked: Callable[..., ApiServer]) -> None:
    api = asked(require_digests="true")
    refused(api.create(pod(cluster.tagged("v1.0.0"))), "no-digest")
    refused(api.create(pod("registry.k8s.io/pause:3.10")), "no-digest")
    assert api.create(pod(f"{cluster.tagged('v1.0.0')}@{cluster.good.digest}")).allowed


def test_a_tag_becomes_the_digest_that_was_judged(cluster: Cluster, asked: Callable[..., ApiServer]) -> None:
    api = asked(mutate="[digest]", require_digests="true")
    answered = api.create(pod(cluster.tagged("v1.0.0", "eu")))
    assert answered.allowed and not answered.warnings and answered.content
    assert answered.content["spec"]["containers"][0]["image"] == cluster.name(cluster.good, "eu")
    refused(api.create(pod(cluster.tagged("v2.0.0"))), "not-allowed")
    refused(api.create(pod(str(cluster.place()))), "latest")
    refused(api.create(pod("nginx:1.29")), "not-approved")


def test_a_tag_that_moves_after_the_check_moves_no_pod(cluster: Cluster, asked: Callable[..., ApiServer]) -> None:
    """Checked as a good release, pulled as another: the node is given the digest."""
    place = cluster.place()
    good = place.registry.get_manifest(place.repository, cluster.good.digest)
    evil = place.registry.get_manifest(place.repository, cluster.evil.digest)
    place.registry.put_manifest(place.repository, good, tag="moving")
    answered = asked(mutate="[digest]").create(pod(cluster.tagged("moving")))
    place.registry.put_manifest(place.repository, evil, tag="moving")
    assert answered.content and answered.content["spec"]["containers"][0]["image"] == cluster.name(cluster.good)


def test_pods_pull_from_the_nearest_replica_that_has_the_image(
    cluster: Cluster, asked: Callable[..., ApiServer]
) -> None:
    gcp = cluster.place("gcp")
    api = asked(mutate="[digest, replica]", nearest="[gcp, eu]")
    made = api.create(pod(cluster.tagged("v1.0.0"))).content
    assert made and made["spec"]["containers"][0]["image"] == cluster.name(cluster.good, "gcp")
    gcp.registry.delete_tag(gcp.repository, "v1.0.0")
    gcp.registry.delete_manifest(gcp.repository, cluster.good.digest)
    api = asked(mutate="[replica]", nearest="[gcp, eu]")
    made = api.create(pod(cluster.name(cluster.good))).content
    assert made and made["spec"]["containers"][0]["image"] == cluster.name(cluster.good, "eu")
    made = api.create(pod(CONTROLLER)).content
    assert made and made["spec"]["containers"][0]["image"] == CONTROLLER
    assert cluster.fleet.chain.replicate(cluster.good, "gcp").ok


def test_of_a_changed_object_only_what_is_new_is_judged(cluster: Cluster, api: ApiServer) -> None:
    """A pod whose release was refused meanwhile can still be labelled, and end; a new image in it is judged."""
    old = pod(cluster.name(cluster.evil))
    assert api.ask({**old, "metadata": {"name": "it", "labels": {"a": "b"}}}, operation="UPDATE", old=old).allowed
    other = pod(cluster.name(cluster.waiting))
    refused(api.ask(other, operation="UPDATE", old=old), "not-promoted")
    more = pod(cluster.name(cluster.evil))
    more["spec"]["ephemeralContainers"] = [{"name": "debug", "image": cluster.name(cluster.evil)}]
    answered = api.ask(more, operation="UPDATE", old=old, resource="ephemeralcontainers")
    refused(answered, "not-allowed", "ephemeral container 'debug'")
    assert api.ask(None, operation="DELETE", old=old).allowed
    refused(api.ask(None, operation="CONNECT"), "unreadable")


def test_objects_of_other_kinds_are_searched_and_what_holds_no_pod_is_refused(cluster: Cluster, api: ApiServer) -> None:
    rollout = {"kind": "Rollout", "spec": {"steps": [{"run": {"spec": pod_spec(cluster.name(cluster.evil))}}]}}
    refused(api.create(rollout, group="argoproj.io"), "not-allowed")
    rollout["spec"] = {"a/b": pod_spec(cluster.name(cluster.good))}
    assert api.create(rollout, group="argoproj.io").allowed
    refused(api.create({"kind": "Model", "spec": {"uri": "x"}}, group="example.com"), "unreadable")
    refused(api.create({"kind": "Deployment", "spec": {}}), "unreadable")
    refused(api.create(workload("Pod", {"containers": {"image": "x"}})), "unreadable")
    refused(api.create(workload("Pod", {"initContainers": [{"name": "x"}]})), "unreadable")


def test_a_release_that_turns_out_bad_starts_no_more(tmp_path: Path, asked: Callable[..., ApiServer]) -> None:
    """As soon as a scan says so, before anybody judges again; kept answers end after `keep`."""
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        release = fleet.release("v1.0.0")
        assert fleet.judged(release)
        fleet.chain.promote(release)
        certificates = make_certificates(tmp_path / "tls")
        chain = fleet.reload(("signing:", f"{settings(certificates, keep='1ms')}signing:"))
        server = stack.enter_context(stack.enter_context(chain.admission_webhook()))
        api = ApiServer(server.port, certificates.ca.read_bytes())
        stack.callback(api.close)
        image = f"{chain.place('app')}@{release.digest}"
        assert api.create(pod(image)).allowed
        write_advisory(fleet.folder / "advisories", package="goodwheel")
        assert not fleet.chain.vulnerabilities(release).ok
        time.sleep(0.002)
        refused(api.create(pod(image)), "not-allowed", "goodwheel")


def test_a_source_that_does_not_answer_lets_nothing_start(tmp_path: Path) -> None:
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        certificates = make_certificates(tmp_path / "tls")
        dead = "registries:\n  gone: {kind: distribution, host: '127.0.0.1:9'}\n"
        away = ("us, repository: team/tool", "gone, repository: team/tool")
        chain = fleet.reload(("registries:\n", dead), away, ("signing:", f"{settings(certificates)}signing:"))
        server = stack.enter_context(stack.enter_context(chain.admission_webhook()))
        api = ApiServer(server.port, certificates.ca.read_bytes(), timeout_s=2)
        stack.callback(api.close)
        answered = api.create(pod("127.0.0.1:9/team/tool:v1.0.0", f"127.0.0.1:9/team/tool@{Digest.of(b'')}"))
        assert answered.message.count("[unreachable]") + answered.message.count("[late]") == 2


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"[]", b"\xff", b'{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview"}', b"[" * 100_000],
)
def test_what_is_no_review_gets_no_answer_that_an_api_server_takes(api: ApiServer, raw: bytes) -> None:
    for path in ("/validate", "/mutate"):
        assert api.send(path, raw)[0] == 400


def test_other_requests_are_refused(api: ApiServer) -> None:
    assert api.send("/healthz", b"", method="GET") == (200, b"ok")
    assert api.send("/validate", b"", method="GET")[0] == 405
    assert api.send("/other", b"{}")[0] == 404
    with pytest.raises(WebhookFailed, match="400"):
        api.post("/validate", {"uid": "", "kind": {}, "operation": "CREATE"})
