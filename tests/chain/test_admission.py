"""The webhook over a real fleet: what its API server makes, and what it refuses."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.errors import InputError
from registry_pipelines.evidence.attestations import attest
from registry_pipelines.evidence.keys import generate_key, load_signer
from registry_pipelines.evidence.predicates import BREAK_GLASS_TYPE, REVOCATION_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.promote.admission import webhook
from registry_pipelines.promote.documents import TIME_FORMAT
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet, push, start, write_advisory
from tests.doubles.api_server import Answered, ApiServer, WebhookFailed
from tests.doubles.certificates import Certificates, make_certificates
from tests.needs import needed_module
from tests.patience import patient
from tests.ports import free_ports
from tests.promote.admission.workload_objects import (
    IMAGES,
    KINDS,
    check_object,
    pod,
    pod_spec,
    review,
    volume,
    workload,
)

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


def configured(cluster: Cluster, **more: str) -> Chain:
    """A chain over the fleet with these settings of `admission`."""
    path = cluster.fleet.path.with_name("admission.yaml")
    path.write_text(cluster.fleet.path.read_text() + settings(cluster.certificates, **more))
    return Chain(load(path, {}))


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
            chain = chain or configured(cluster, **more)
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


def test_who_connects_and_says_nothing_keeps_no_api_server_out(
    cluster: Cluster, asked: Callable[..., ApiServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod of the cluster takes no more connections than one address may have; others are left for who asks."""
    monkeypatch.setattr(webhook, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(webhook, "MAX_OF_PEER", 3)
    api = asked()
    with ExitStack() as stack:
        for _ in range(8):
            pod_of_cluster = socket.create_connection(("127.0.0.1", api.port), source_address=("127.0.0.2", 0))
            stack.enter_context(pod_of_cluster)
        assert api.create(pod(cluster.name(cluster.good))).allowed
    assert api.create(pod(cluster.name(cluster.good))).allowed


def test_the_refusal_of_an_object_of_many_images_is_bounded(cluster: Cluster, api: ApiServer) -> None:
    answered = api.create(pod(*(f"quay.io/{'a' * 200}{number}:1" for number in range(2000))))
    lines = answered.message.splitlines()
    assert not answered.allowed
    assert len(lines) == 66 and lines[-1] == "and 1936 more images" and len(answered.message) < 64 * 1024
    assert len(answered.audit["images"]) == 2000


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
    assert answered.allowed and "when it starts: write" in answered.warnings[0]
    refused(api.create(pod(cluster.tagged("v2.0.0"))), "not-allowed", "badwheel")


def test_digests_can_be_required(cluster: Cluster, asked: Callable[..., ApiServer]) -> None:
    api = asked(require_digests="true")
    refused(api.create(pod(cluster.tagged("v1.0.0"))), "no-digest")
    refused(api.create(pod("registry.k8s.io/pause:3.10")), "no-digest")
    assert api.create(pod(f"{cluster.tagged('v1.0.0')}@{cluster.good.digest}")).allowed


def test_a_tag_becomes_the_digest_that_was_judged(cluster: Cluster, asked: Callable[..., ApiServer]) -> None:
    place = cluster.place()
    good = place.registry.get_manifest(place.repository, cluster.good.digest)
    place.registry.put_manifest(place.repository, good, tag="latest")
    api = asked(mutate="[digest]", require_digests="true")
    answered = api.create(pod(cluster.tagged("v1.0.0", "eu")))
    assert answered.allowed and not answered.warnings and answered.content
    assert answered.content["spec"]["containers"][0]["image"] == cluster.name(cluster.good, "eu")
    refused(api.create(pod(cluster.tagged("v2.0.0"))), "not-allowed")
    for latest in (str(place), f"{place}:latest"):
        refused(api.create(pod(latest)), "latest")
    place.registry.delete_tag(place.repository, "latest")
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


def test_a_release_that_turns_out_bad_starts_no_more(tmp_path: Path) -> None:
    """As soon as a scan says so, before anybody judges again, but by a break-glass, of which every answer warns; and
    when it is revoked, by nothing. Kept answers end after `keep`."""
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
        image, place = pod(f"{chain.place('app')}@{release.digest}"), chain.place("app")

        def ask() -> Answered:
            time.sleep(0.002)
            return api.create(image)

        assert ask().allowed
        write_advisory(fleet.folder / "advisories", package="goodwheel")
        assert not fleet.chain.vulnerabilities(release).ok
        refused(ask(), "not-allowed", "goodwheel")
        moment, later = (datetime.now(UTC) + timedelta(hours=hours) for hours in (0, 4))
        told = {"image": "app", "version": "v1.0.0", "release": str(release.digest), "reason": "the fix is urgent"}
        told |= {"by": "jane", "identity": "claimed", "time": moment.strftime(TIME_FORMAT)}
        subject = place.registry.resolve(place.repository, release.digest)
        signer = load_signer(fleet.config.signing_key)
        glass = {**told, "channel": "prod", "expires": later.strftime(TIME_FORMAT)}
        attest(place, subject, BREAK_GLASS_TYPE, glass, signer)
        answered = ask()
        assert answered.allowed and "break-glass by jane" in answered.warnings[0]
        assert "break-glass" in answered.audit["images"]
        attest(place, subject, REVOCATION_TYPE, told, signer)
        refused(ask(), "revoked", "revoked by jane")


def test_a_cluster_may_run_what_is_on_its_way(tmp_path: Path) -> None:
    """With `channel: staging`; without, the last channel of the image counts."""
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        release = fleet.release("v1.0.0")
        certificates = make_certificates(tmp_path / "tls")
        order = ("targets: [eu, gcp]", "targets: [eu, gcp], channels: [staging, prod]")
        chain = fleet.reload(order, ("signing:", f"{settings(certificates, channel='staging')}signing:"))
        assert fleet.judged(release)
        chain.promote(release, channel="staging")
        told = pod(f"{chain.place('app')}@{release.digest}")
        for words, allowed in ((), True), (("channel: staging", "channel: prod"), False):
            chain = fleet.reload(words) if words else chain
            server = stack.enter_context(stack.enter_context(chain.admission_webhook()))
            api = ApiServer(server.port, certificates.ca.read_bytes())
            answered = api.create(told)
            api.close()
            server.stop()
            assert answered.allowed is allowed
            if not allowed:
                refused(answered, "not-promoted", "prod")


def test_a_source_that_does_not_answer_lets_nothing_start(tmp_path: Path) -> None:
    """Nobody listens there, and the answer does not come in time; or it wants a log-in that we do not have."""
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        certificates = make_certificates(tmp_path / "tls")
        closed = stack.enter_context(EmbeddedServer(tmp_path / "closed", users={"them": "secret"}))
        hosts = "registries:\n  gone: {{kind: distribution, host: '{}'}}\n"
        away = ("us, repository: team/tool", "gone, repository: team/tool")
        first = [
            ("registries:\n", hosts.format("127.0.0.1:9")),
            away,
            ("signing:", f"{settings(certificates)}signing:"),
        ]
        for host, changes in (("127.0.0.1:9", first), (closed.address, [("127.0.0.1:9", closed.address)])):
            with fleet.reload(*changes).admission_webhook() as webhook, webhook as server:
                api = ApiServer(server.port, certificates.ca.read_bytes(), timeout_s=2 if changes is first else 30)
                answered = api.create(pod(f"{host}/team/tool:v1.0.0", f"{host}/team/tool@{Digest.of(b'')}"))
                api.close()
            codes = [answered.message.count(f"[{code}]") for code in ("unreachable", "late")]
            assert sum(codes) == 2 if changes is first else codes == [2, 0]


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


class Skopeo:
    """The program with the files that we write."""

    def __init__(self, program: str, folder: Path, files: dict[str, bytes]) -> None:
        self._program, self._folder = program, folder
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    def refuses(self, image: str) -> str:
        """What it says against a copy; empty when it made one."""
        options = ["--policy", "policy.json", "--registries.d", "registries.d"]
        command = [self._program, *options, "copy", "--src-tls-verify=false", f"docker://{image}", "dir:copied"]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, timeout=patient(60))
        return done.stderr if done.returncode else ""


@pytest.mark.peer("skopeo-sigstore")
@pytest.mark.parametrize("digests", ["false", "true"])
def test_skopeo_takes_what_a_person_signed_at_every_place_and_nothing_else(
    cluster: Cluster, tmp_path: Path, peer: Callable[[str], str], digests: str
) -> None:
    chain = configured(cluster, require_digests=digests)
    skopeo = Skopeo(peer("skopeo-sigstore"), tmp_path, chain.admission_files("containers"))
    private = str(chain.mirror_places("app", "airgap")[-1])
    for place in (str(cluster.place()), str(cluster.place("eu")), private):
        assert skopeo.refuses(f"{place}@{cluster.good.digest}") == ""
        assert skopeo.refuses(f"{place}:v1.0.0") == ""
        assert ("identity" in skopeo.refuses(f"{place}:prod")) is (digests == "true")
    unsigned = push(cluster.place("eu"), "v8.0.0", package="strange").digest
    assert "no signature exists" in skopeo.refuses(f"{cluster.place('eu')}@{unsigned}")
    elsewhere = push(chain.place("tool"), "v1.0.0").digest  # ours, and nobody signed it
    assert skopeo.refuses(f"{chain.place('tool')}@{elsewhere}")
    other = Place(cluster.place().registry, "team/unknown")
    assert "rejected by policy" in skopeo.refuses(f"{other}@{push(other, 'v1').digest}")
    stranger = generate_key(tmp_path / "stranger.key")
    policy = json.loads((tmp_path / "policy.json").read_text())
    for rules in policy["transports"]["docker"].values():
        rules[0] |= (
            {"keyData": base64.b64encode(stranger.public.read_bytes()).decode()} if "keyData" in rules[0] else {}
        )
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    assert "verification failed" in skopeo.refuses(cluster.name(cluster.good))


def test_rego_says_of_every_object_what_the_webhook_says(cluster: Cluster, asked: Callable[..., ApiServer]) -> None:
    """By what was known when its data were written; and tags, which it cannot look up, are no digests to it."""
    needed_module("regopy", "admission")
    from registry_pipelines.promote.admission.rego import RegoPolicy

    chain = configured(cluster, require_digests="true")
    policy, api = RegoPolicy(chain.admission_files("rego")), asked(chain)
    place, good, evil = cluster.place(), cluster.name(cluster.good), cluster.name(cluster.evil)
    images = [good, cluster.name(cluster.good, "eu"), f"{cluster.tagged('v1.0.0')}@{cluster.good.digest}", CONTROLLER]
    images += [evil, cluster.name(cluster.waiting), str(place), f"{place}:latest", cluster.tagged("v1.0.0"), "nginx:1"]
    images += [f"{APPROVED}.evil.example/x@{cluster.good.digest}", "registry.k8s.io/pause:3.10", "x y", "", "A/b:1"]
    objects = [workload(kind, pod_spec(image)) for kind in KINDS for image in (good, evil)]
    objects += [pod(image, where=IMAGES[number % 3]) for number, image in enumerate(images)]
    objects += [volume(good), volume(evil), pod(good, evil), pod(), {"kind": "Pod"}, {"kind": "Deployment"}]
    objects += [{"kind": "ConfigMap"}, workload("Pod", {"containers": "x"}), workload("Pod", {"containers": [{}]})]
    for content in objects:
        refusals, answered = policy.refusals(review(content)), api.create(content)
        assert (not refusals) == answered.allowed, (content, refusals, answered.message)
    old, new = pod(evil), pod(evil, good)
    assert policy.refusals(review(new, old)) == [] and api.ask(new, operation="UPDATE", old=old).allowed
    assert policy.refusals(review(pod(good), old)) == []
    assert policy.refusals(review(pod(cluster.name(cluster.waiting)), old)) != []


def test_rego_that_is_undefined_or_fails_allows_nothing(cluster: Cluster) -> None:
    needed_module("regopy", "admission")
    from registry_pipelines.promote.admission.rego import DATA_FILE, POLICY_FILE, RegoPolicy

    files = configured(cluster).admission_files("rego")
    good = review(pod(cluster.name(cluster.good)))
    assert RegoPolicy(files).refusals(good) == []
    assert RegoPolicy({**files, DATA_FILE: b"{}"}).refusals(good)
    text = files[POLICY_FILE].decode()
    failing = text.replace("\tcount(deny) == 0", '\tto_number("no number") != 1\n\tcount(deny) == 0')
    assert failing != text
    assert RegoPolicy({**files, POLICY_FILE: failing.encode()}).refusals(good)
    assert RegoPolicy({**files, POLICY_FILE: b"package registry_pipelines.admission\n"}).refusals(good)
    for broken in ({**files, POLICY_FILE: b"nonsense {"}, {**files, DATA_FILE: b"["}, {}):
        with pytest.raises(InputError, match="cannot be read"):
            RegoPolicy(broken)


def test_policies_are_written_for_what_may_start_and_kyverno_s_says_that_nobody_ran_it(cluster: Cluster) -> None:
    chain = configured(cluster)
    files = chain.admission_files("validating-policy") | chain.admission_files("kyverno")
    assert set(files) == {"policy.yaml", "binding.yaml", "clusterpolicy.yaml"}
    assert b"*not run here*" in files["clusterpolicy.yaml"]
    names = ("policy.yaml", "binding.yaml", "clusterpolicy.yaml")
    policy, binding, kyverno = (yaml.safe_load(files[name]) for name in names)
    for content in (policy, binding):
        check_object(content)
    [startable, approved, _] = policy["spec"]["variables"]
    assert cluster.name(cluster.good, "eu") in json.loads(startable["expression"])
    assert not {cluster.name(each) for each in (cluster.evil, cluster.waiting)} & set(
        json.loads(startable["expression"])
    )
    assert json.loads(approved["expression"]) == ["registry.k8s.io/"]
    [signed, _] = kyverno["spec"]["rules"]
    [verify] = signed["verifyImages"]
    assert f"{cluster.place('eu')}@*" in verify["imageReferences"] and verify["required"]
    assert verify["mutateDigest"]
    strict = configured(cluster, require_digests="true")
    files = strict.admission_files("validating-policy") | strict.admission_files("kyverno")
    assert "matches('@sha256:[0-9a-f]{64}$')" in files["policy.yaml"].decode().replace("\\\n", "")
    [signed, allowed] = yaml.safe_load(files["clusterpolicy.yaml"])["spec"]["rules"]
    assert not signed["verifyImages"][0]["mutateDigest"]
    [wanted] = allowed["validate"]["pattern"]["spec"]["containers"]
    assert ":*" not in wanted["image"].replace("@sha256:*", "") and "registry.k8s.io/*@sha256:*" in wanted["image"]
    [entry] = verify["attestors"][0]["entries"]
    assert entry["keys"]["publicKeys"].encode() == cluster.fleet.config.trusted_keys[0].read_bytes()
