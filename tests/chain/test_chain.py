from __future__ import annotations

import gc
import shutil
import subprocess
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.chain import Chain, StageResult
from registry_pipelines.chain.outcome import outcomes
from registry_pipelines.errors import EvidenceMissing, InputError, NotFound, PromotionDenied, TagImmutable
from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.evidence.keys import generate_key
from registry_pipelines.oci.manifests import artifact_manifest
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet, check_receipt, push, write_advisory


def all_stages(chain: Chain, release: Release) -> list[StageResult]:
    return [
        chain.provenance(release),
        chain.sbom(release),
        chain.vulnerabilities(release),
        chain.sign(release),
        chain.verify(release),
        chain.judge(release),
        chain.promote(release),
        *(chain.replicate(release, target) for target in chain.targets(release.image)),
        *(chain.mirror_release(release, mirror) for mirror in chain.mirrors(release.image)),
    ]


def named(place: Place, tag: str) -> str:
    try:
        return place.registry.resolve(place.repository, tag).digest
    except NotFound:
        return ""


def test_a_release_ships_everywhere_and_the_second_time_nothing_moves(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    first = all_stages(fleet.chain, release)
    assert all(result.ok for result in first)
    assert [result.stage for result in first if result.changed] == [
        "sbom", "vulnerabilities", "sign", "judge", "promote", "replicate:eu", "replicate:gcp", "mirror:airgap",
    ]  # fmt: skip
    assert {result.subject for result in first} == {release.key}
    assert first[0].facts["inputs"] == 1
    for place in (
        fleet.chain.place("app"),
        fleet.chain.target_place("app", "gcp"),
        *fleet.chain.mirror_places("app", "airgap"),
    ):
        assert named(place, "prod") == named(place, "v1.0.0") == release.digest
    for place in (fleet.chain.target_place("app", "eu"), *fleet.chain.mirror_places("app", "airgap")):
        check_receipt(fleet.chain, place, "prod")
    assert fleet.chain.target_place("app", "gcp").repository == "replicas/team/app"
    assert not fleet.chain.compare_replica(release, "eu").differences

    second = all_stages(Chain(fleet.config), release)
    assert not [result.stage for result in second if result.changed]
    assert sum(result.bytes_moved for result in second) == 0
    found = outcomes(fleet.chain, release)
    assert (found.ships, found.problems, len(found.present_at)) == (True, (), 4)


def test_a_vulnerable_release_is_denied_and_reaches_no_place(fleet: Fleet) -> None:
    bad = fleet.release("v1.0.0", package="badwheel")
    assert not fleet.judged(bad)
    assert "CRITICAL 9.8: pkg:pypi/badwheel@1.0" in " ".join(fleet.chain.judge(bad).reasons)
    for act in (
        lambda: fleet.chain.promote(bad),
        lambda: fleet.chain.replicate(bad, "eu"),
        lambda: fleet.chain.mirror_release(bad, "airgap"),
    ):
        with pytest.raises(PromotionDenied, match="badwheel"):
            act()
    assert named(fleet.chain.place("app"), "prod") == ""
    found = outcomes(fleet.chain, bad)
    assert (found.ships, found.problems, len(found.absent_from)) == (False, (), 4)

    good = fleet.release("v1.0.1")
    assert fleet.judged(good)
    fleet.chain.promote(good)
    fleet.chain.replicate(good, "eu")
    assert not fleet.chain.judge(bad).ok
    with pytest.raises(PromotionDenied):
        fleet.chain.replicate(bad, "eu")
    assert not outcomes(fleet.chain, bad).problems


def test_an_outcome_that_contradicts_the_verdict_is_a_problem(fleet: Fleet) -> None:
    bad = fleet.release("v1.0.0", package="badwheel")
    assert not fleet.judged(bad)
    smuggled = push(fleet.chain.target_place("app", "eu"), "v1.0.0", package="badwheel")
    assert smuggled.digest == bad.digest
    assert outcomes(fleet.chain, bad).problems == ("app:v1.0.0 is at eu",)


@pytest.mark.parametrize("missing", ["sbom", "report", "provenance", "signature"])
def test_missing_evidence_denies(fleet: Fleet, missing: str) -> None:
    release = fleet.release("v1.0.0", provenance=missing != "provenance")
    if missing == "sbom":
        with pytest.raises(EvidenceMissing):
            fleet.chain.vulnerabilities(release)
    else:
        fleet.chain.sbom(release)
    if missing not in ("sbom", "report"):
        fleet.chain.vulnerabilities(release)
    if missing != "signature":
        fleet.chain.sign(release)
    assert not fleet.chain.judge(release).ok
    with pytest.raises(PromotionDenied):
        fleet.chain.promote(release)


def test_no_provenance_and_garbage_are_told_not_raised(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0", provenance=False)
    place = fleet.chain.place("app")
    subject = place.registry.resolve(place.repository, release.digest)
    for garbage in (b"", b"[]", b"\xff", b'{"predicateType": "https://slsa.dev/provenance/v1", "predicate": 3}'):
        attach(
            place,
            subject=subject,
            artifact_type="application/vnd.in-toto+json",
            content=garbage,
            media_type="application/vnd.in-toto+json",
        )
    result = fleet.chain.provenance(release)
    assert (result.ok, result.facts["statements"]) == (True, 0)
    assert result.reasons == ["its builder attached no SLSA provenance"]


def test_verdicts_of_keys_that_are_not_trusted_let_nothing_leave(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    stranger = generate_key(fleet.folder / "stranger.key")
    other = fleet.reload(("signing: {generate: true}", f"signing: {{key: {stranger.private}}}"))
    for act in (other.sbom, other.vulnerabilities, other.sign, other.judge, other.promote):
        assert act(release).ok
    ours = fleet.reload((f"signing: {{key: {stranger.private}}}", "signing: {generate: true}"))
    with pytest.raises(PromotionDenied, match="none by policy default is signed by a trusted key"):
        ours.replicate(release, "eu")
    with pytest.raises(Exception, match=r"no signature is believed|not signed"):
        ours.verify(release)


def test_a_later_deny_stops_replication(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    fleet.chain.promote(release)
    fleet.chain.replicate(release, "eu")
    write_advisory(fleet.folder / "advisories", package="goodwheel")
    assert not fleet.judged(release)
    with pytest.raises(PromotionDenied, match=r"CRITICAL 9\.8: pkg:pypi/goodwheel@1\.0"):
        fleet.chain.replicate(release, "gcp")


def test_an_older_release_never_takes_the_channel_back_at_a_target(fleet: Fleet) -> None:
    old, new = fleet.release("v1.0.0"), fleet.release("v1.1.0")
    for release in (old, new):
        assert fleet.judged(release)
        fleet.chain.promote(release)
        fleet.chain.replicate(release, "eu")
    eu = fleet.chain.target_place("app", "eu")
    fleet.chain.replicate(old, "eu")
    assert (named(eu, "prod"), named(eu, "v1.0.0")) == (new.digest, old.digest)
    fleet.chain.promote(old)  # a rollback is the promotion of an earlier release
    fleet.chain.replicate(old, "eu")
    assert named(eu, "prod") == old.digest
    assert not fleet.chain.compare_replica(old, "eu").differences


def test_a_version_tag_that_names_something_else_at_a_target_is_seen(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    fleet.chain.promote(release)
    fleet.chain.replicate(release, "eu")
    eu = fleet.chain.target_place("app", "eu")
    push(eu, "v1.0.0", package="elsewhere")
    assert [(each.kind, each.subject) for each in fleet.chain.compare_replica(release, "eu").differences] == [
        ("tag", "v1.0.0")
    ]


def test_releases_are_images_under_version_tags_one_for_each_digest(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    made = push(place, "v1.0.0")
    stored = place.registry.get_manifest(place.repository, made.digest)
    for alias in ("20261123-101500-abcdef1", "git-abcdef123456", "1.0.0-alias", "prod", "stable", "latest", "nightly"):
        place.registry.put_manifest(place.repository, stored, tag=alias)
    layer = push_blob(place, b"not an image", media_type="text/plain")
    artifact = artifact_manifest(artifact_type="text/plain", layers=[layer], subject=None)
    place.registry.put_manifest(place.repository, artifact, tag="v9.9.9")
    nightly = push(place, "main-17", package="other")
    push(place, "pr-17-wip", package="unfinished")
    place.registry.put_manifest(place.repository, artifact, tag=f"{made.digest.fallback_tag}.sig")
    assert {each.key for each in fleet.chain.releases()} == {f"app:1.0.0-alias@{made.digest}"}
    chosen = fleet.reload(("targets: [eu, gcp]}", "targets: [eu, gcp], tags: ['main-*', '[0-9]*']}"))
    assert {each.key for each in chosen.releases()} == {
        f"app:1.0.0-alias@{made.digest}",
        f"app:main-17@{nightly.digest}",
    }
    built = fleet.reload(("tags: ['main-*', '[0-9]*']}", "tags: ['main-*'], build: {version: v1.0.0}}"))
    assert f"app:v1.0.0@{made.digest}" in {each.key for each in built.releases()}
    assert fleet.chain.find_release("app:pr-17-wip").tag == "pr-17-wip", "a person may name any tag"


def test_a_release_is_found_by_what_a_person_writes(fleet: Fleet) -> None:
    one = fleet.release("v1.0.0")
    assert {fleet.chain.find_release(text) for text in (one.key, "app:v1.0.0", f"app@{one.digest}", "app")} == {one}
    fleet.release("v2.0.0", package="other")
    with pytest.raises(InputError, match=r"names 2 releases: v1\.0\.0, v2\.0\.0"):
        fleet.chain.find_release("app")
    with pytest.raises(InputError, match="unknown image `ap`; did you mean `app`"):
        fleet.chain.find_release("ap:v1.0.0")
    with pytest.raises(NotFound):
        fleet.chain.find_release("app:v3.0.0")
    with pytest.raises(NotFound, match="there is no release 'tool'"):
        fleet.chain.find_release("tool")


def test_names_that_are_not_configured_are_refused(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0", image="tool")
    for act, said in (
        (lambda: fleet.chain.registry("gpc"), "unknown registry `gpc`; did you mean `gcp`"),
        (lambda: fleet.chain.replicate(release, "mars"), "unknown target `mars`"),
        (lambda: fleet.chain.replicate(release, "eu"), "tool does not go to eu"),
        (lambda: fleet.chain.mirror_release(release, "airgap"), "tool is not mirrored by airgap"),
        (lambda: fleet.chain.mirror("moon"), "unknown mirror `moon`"),
        (lambda: fleet.chain.build("tool"), "has no build section"),
        (lambda: fleet.chain.place("none"), "unknown image `none`"),
    ):
        with pytest.raises(InputError, match=said):
            act()


def test_a_key_is_made_only_when_told(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    chain = fleet.reload(("signing: {generate: true}", "signing: {generate: false}"))
    with pytest.raises(InputError, match="key file cannot be read"):
        chain.sign(release)
    assert not fleet.config.signing_key.exists()
    fleet.chain.sign(release)
    assert fleet.config.signing_key.stat().st_mode & 0o777 == 0o600


def test_build_makes_a_release_that_is_found_and_never_moves(fleet: Fleet) -> None:
    push(fleet.chain.place("tool"), "base", package="base", provenance=False)
    application = fleet.folder / "application"
    application.mkdir()
    (application / "app.py").write_text("print('one')\n")
    chain = fleet.reload(
        (
            "targets: [eu, gcp]}",
            "targets: [eu, gcp], build: {version: v1.0.0, base: 'us/team/tool:base', python: '3.11',"
            " application: application, platforms: [linux/amd64]}}",
        )
    )
    first = chain.build("app")
    assert first.changed and first.facts["release"] == first.subject
    second = chain.build("app")
    assert (second.changed, second.bytes_moved, second.action, second.digest) == (False, 0, "unchanged", first.digest)
    release = chain.find_release("app:v1.0.0")
    assert release.key == first.subject
    assert chain.provenance(release).facts["statements"] == 1
    (application / "app.py").write_text("print('two')\n")
    with pytest.raises(TagImmutable):
        chain.build("app")
    assert chain.find_release("app:v1.0.0") == release


@pytest.mark.peer("skopeo")
def test_skopeo_pushes_a_release_and_finds_it_at_the_replica(
    fleet: Fleet, peer: Callable[[str], str], tmp_path: Path
) -> None:
    skopeo = peer("skopeo")
    source = fleet.chain.place("tool")
    push(source, "v1.0.0")
    folder = tmp_path / "copied"
    run = [skopeo, "--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"]
    subprocess.run([*run, f"docker://{source}:v1.0.0", f"oci:{folder}:x"], check=True, capture_output=True)
    subprocess.run(
        [*run, f"oci:{folder}:x", f"docker://{fleet.chain.place('app')}:v2.0.0"], check=True, capture_output=True
    )
    shutil.rmtree(folder)
    chain = fleet.reload(
        ("targets:\n  eu", "policies: {default: {required: [sbom, vulnerabilities, signature]}}\ntargets:\n  eu")
    )
    release = chain.find_release("app:v2.0.0")
    for act in (chain.sbom, chain.vulnerabilities, chain.sign, chain.judge, chain.promote):
        assert act(release).ok
    chain.replicate(release, "eu")
    replica = f"docker://{chain.target_place('app', 'eu')}:prod"
    look = [skopeo, "inspect", "--tls-verify=false", "--format", "{{.Digest}}", replica]
    found = subprocess.run(look, check=True, capture_output=True, text=True)
    assert found.stdout.strip() == release.digest


def test_a_mirror_brings_the_newest_upstreams_and_tells_of_those_it_cannot(fleet: Fleet) -> None:
    upstream = Place(fleet.chain.registry("us"), "up/stream")
    digests = {tag: push(upstream, tag, version=tag, provenance=False).digest for tag in ("1.0", "1.1", "1.10", "2.0")}
    result = fleet.chain.mirror("airgap")
    assert result.ok and result.facts["tags_changed"] == 2
    for name in ("dmz", "private"):
        place = Place(fleet.chain.registry(name), "in/up/stream")
        assert {tag: named(place, tag) for tag in sorted(place.registry.tags(place.repository))} == {
            tag: digests[tag] for tag in ("1.1", "1.10")
        }
    again = fleet.chain.mirror("airgap")
    assert (again.changed, again.bytes_moved, again.action) == (False, 0, "unchanged")
    chain = fleet.reload(("upstreams:\n", "upstreams:\n      - {image: us/up/none}\n"))
    partly = chain.mirror("airgap")
    assert not partly.ok and partly.facts["problems"] == 1 and len(partly.rows) == 3
    assert partly.reasons[0].count("up/none: ") == 1
    chain = fleet.reload(('tags: ["1.*"], newest: 2', 'tags: ["1.*"], exclude_tags: ["1.1*"], newest: 2'))
    assert [row["tag"] for row in chain.mirror("airgap").rows if row["tag"]] == ["1.0"], "and up/none"
    chain = fleet.reload(('exclude_tags: ["1.1*"]', 'exclude_tags: ["*"]'))
    assert "Correct `tags`, `exclude_tags` or `semver`" in " ".join(chain.mirror("airgap").reasons)


def test_a_chain_that_nobody_has_is_freed_with_its_registries(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    gc.collect()
    gc.disable()
    try:
        chain = Chain(fleet.chain.config)
        assert chain.sbom(release).ok
        left = weakref.ref(chain.place("app").registry)
        del chain
        assert left() is None
    finally:
        gc.enable()
