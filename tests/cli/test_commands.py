"""Every command on a running fleet, as people and as programs use it."""

from __future__ import annotations

import base64
import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.chain import Chain
from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.config.schema import reference_page, schema
from registry_pipelines.errors import NotFound
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.protocol import Place
from tests.answers import answered, document
from tests.chain.fleet import Fleet, push, start
from tests.cli.on_fleet import answer, run
from tests.doubles.fault_registry import FaultRegistry
from tests.evidence.parts import Cosign
from tests.scan.images import push_image
from tests.scan.test_wheel_contents import SETUPTOOLS


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield start(tmp_path_factory.mktemp("fleet"), stack)


def test_replicate_reads_its_source_once_and_a_target_that_is_down_holds_up_no_other(tmp_path: Path) -> None:
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        release = fleet.release("v1.0.0")
        assert fleet.judged(release)
        fleet.chain.promote(release)
        source = stack.enter_context(FaultRegistry(fleet.chain.registry("us").name))
        port = fleet.chain.registry("us").name.rpartition(":")[2]
        fleet.reload(
            (f"us: {{kind: embedded, port: {port}}}", f"us: {{kind: distribution, host: '{source.address}'}}"),
            ("targets: [eu, gcp]}", "targets: [eu, away, gcp]}"),
            ("targets:\n", "targets:\n  away: {registry: away}\n"),
            ("registries:\n", "registries:\n  away: {kind: distribution, host: '127.0.0.1:9'}\n"),
        )
        eu, away, gcp = answer(fleet, "replicate", "app", code=6)
        assert [(each["stage"], each["ok"], each["changed"]) for each in (eu, away, gcp)] == [
            ("replicate:eu", True, True),
            ("replicate:away", False, False),
            ("replicate:gcp", True, True),
        ]
        assert "127.0.0.1:9" in away["reasons"][0] and away["exit_code"] == 7
        read = Counter(each.target for each in source.seen if each.method == "GET" and "/blobs/" in each.target)
        manifest = fleet.chain.registry("us").get_manifest("team/app", release.digest).content()
        assert isinstance(manifest, Manifest)
        assert {read[f"/v2/team/app/blobs/{layer.digest}"] for layer in manifest.layers} == {1}


def test_a_release_goes_through_every_command(fleet: Fleet, tmp_path: Path) -> None:
    release = fleet.release("v1.0.0")
    assert [row["release"] for row in answer(fleet, "releases", "app")] == [release.key]
    assert answer(fleet, "provenance", "app")["facts"]["statements"] == 1
    sbom = answer(fleet, "sbom", "app:v1.0.0", "--output", str(tmp_path / "sboms"))
    assert [row["purl"] for row in sbom["rows"]] == ["pkg:pypi/goodwheel@1.0"]
    [document] = (tmp_path / "sboms").iterdir()
    assert json.loads(document.read_bytes())["bomFormat"] == "CycloneDX"
    assert [each["stage"] for each in answer(fleet, "scan", "app")] == ["sbom", "vulnerabilities"]
    assert answer(fleet, "sign", "app")["changed"]
    assert answer(fleet, "verify", release.key)["facts"]["attestations"] == 4
    assert answer(fleet, "judge", "app")["facts"]["verdict"] == "allow"
    # The verdict, and the scan's record that others read as a pass.
    assert answer(fleet, "verify", release.key)["facts"]["attestations"] == 6
    assert answer(fleet, "promote", "app")["facts"]["channel"] == "prod"
    assert [each["ok"] for each in answer(fleet, "replicate", "app", "--check", code=6)] == [False, False]
    assert [each["stage"] for each in answer(fleet, "replicate", "app")] == ["replicate:eu", "replicate:gcp"]
    assert [each["facts"]["differences"] for each in answer(fleet, "replicate", "app", "--check")] == [0, 0]
    assert answer(fleet, "mirror", "--release", "app")[0]["changed"]
    again = (
        answer(fleet, "replicate", "app")
        + answer(fleet, "mirror", "--release", "app")
        + [answer(fleet, "promote", "app")]
    )
    assert not any(each["changed"] or each["bytes_moved"] for each in again)

    public = str(fleet.config.trusted_keys[0])
    far = answer(fleet, "verify", "private/in/team/app:prod", "--key", public)
    assert (far["ok"], far["digest"]) == (True, release.digest)
    assert far["verified"][0]["identity"] == f"{fleet.chain.place('app')}:v1.0.0"
    found = answer(fleet, "inspect", "gcp/replicas/team/app:prod")
    assert found["digest"] == release.digest and found["entries"][0]["platform"] == "linux/amd64"
    assert {row["kind"] for row in found["evidence"]} >= {
        "application/vnd.cyclonedx+json",
        "application/vnd.in-toto+json",
    }
    assert [row["tag"] for row in found["digest_tags"]] == [f"{release.digest.fallback_tag}.sig"]


def test_what_is_denied_ends_with_three_and_its_reasons(fleet: Fleet) -> None:
    release = fleet.release("v6.6.6", package="badwheel")
    scanned = answer(fleet, "scan", "app:v6.6.6", code=3)
    assert scanned[1]["rows"][0]["severity"] == "CRITICAL"
    answer(fleet, "sign", release.key)
    assert any("badwheel" in reason for reason in answer(fleet, "judge", release.key, code=3)["reasons"])
    for command in (["promote"], ["replicate"], ["mirror", "airgap", "--release"]):
        refused = answer(fleet, *command, release.key, code=3)
        assert refused["error"]["error"] == "PromotionDenied"
        assert any("badwheel" in reason for reason in refused["error"]["reasons"])
        text = run(fleet, *command, release.key, code=3)
        assert "CRITICAL 9.8: pkg:pypi/badwheel@1.0" in text.stderr and "Traceback" not in text.stderr


def test_tables_show_the_same_to_people(fleet: Fleet) -> None:
    fleet.release("v7.0.0", package="badwheel")
    text = run(fleet, "scan", "app:v7.0.0", code=3).stdout
    for expected in ("CRITICAL", "pkg:pypi/badwheel@1.0", "TEST-2026-1", "2.0", "1 critical"):
        assert expected in text
    listed = run(fleet, "releases").stdout
    assert "v7.0.0" in listed and "app" in listed
    shown = run(fleet, "inspect", "us/team/app:v7.0.0").stdout
    assert "linux/amd64" in shown and "provenance/v1" in shown


def test_any_image_can_be_scanned_and_listed_without_writing(fleet: Fleet) -> None:
    place = fleet.chain.place("tool")
    made = push(place, "v1.0.0", package="badwheel", provenance=False)
    reference = f"{place}:v1.0.0"
    advisories = str(fleet.folder / "advisories")
    found = answer(fleet, "scan", reference, "--advisories", advisories, code=3)
    assert [each["stage"] for each in found] == ["sbom", "vulnerabilities"]
    assert found[1]["rows"][0]["ids"] == "TEST-2026-1"
    assert "TEST-2026-1" in run(fleet, "scan", reference, "--advisories", advisories, code=3).stdout
    assert answer(fleet, "sbom", reference)["rows"][0]["purl"] == "pkg:pypi/badwheel@1.0"
    assert place.registry.referrers(place.repository, made.digest) == []


def test_a_scan_of_a_release_and_of_the_same_image_elsewhere_are_one_program(fleet: Fleet) -> None:
    """The same columns, documents and exit codes; what differs is whether anything is stored, which is said."""
    advisories = ("--advisories", str(fleet.folder / "advisories"))
    for tag, package, code in (("v4.0.0", "badwheel", 3), ("v4.0.1", "fine", 0)):
        release = fleet.release(tag, image="tool", package=package)
        place = fleet.chain.place("tool")
        elsewhere, ours = (f"{place}:{tag}", *advisories), (f"tool:{tag}",)
        read, stored = (answer(fleet, "scan", *each, code=code) for each in (elsewhere, ours))
        for one, other in zip(read, stored, strict=True):
            assert one.keys() == other.keys() and one["rows"] == other["rows"] and one["stage"] == other["stage"]
            assert one["facts"].keys() == other["facts"].keys() - {"release"}
            assert (one["facts"]["attached"], other["facts"]["attached"]) == (False, True)
        shown = [run(fleet, "scan", *each, code=code).stdout for each in (elsewhere, ours)]
        assert shown[0].startswith("only read: nothing is attached, because no image of the configuration is named")
        assert shown[1].startswith("SBOM and report are attached to the release; policy `default` sets the limits")
        headings = [
            [line.split() for line in text.splitlines() if "  stage " in text and "what was" in line] for text in shown
        ]
        assert headings[0] == headings[1] and headings[0]
        assert release.digest in str(read)


def test_what_a_scan_leaves_out_is_said(fleet: Fleet) -> None:
    place = fleet.chain.place("tool")
    push_image(place, [SETUPTOOLS], tag="v8.0.0")
    for target in (f"{place}:v8.0.0", "tool:v8.0.0"):
        rows = answer(fleet, "sbom", target)["tables"]["left_out"]
        assert [row["what"].rpartition("/")[2] for row in rows] == ["my_test-1.egg", "other.egg-info"]
        assert "a fixture, not installed" in rows[0]["why"]
        assert "other.egg-info: metadata of other 1 in a tests folder" in run(fleet, "sbom", target).stdout
    advisories = str(fleet.folder / "advisories")
    found = run(fleet, "scan", f"{place}:v8.0.0", "--advisories", advisories)
    assert "other.egg-info: metadata of other 1 in a tests folder" in found.stdout


def test_copy_plans_copies_and_repeats(fleet: Fleet) -> None:
    made = push(fleet.chain.place("tool"), "v3.0.0")
    eu = fleet.chain.registry("eu")
    plan = answer(fleet, "copy", "us/team/tool:v3.0.0", "eu/copied", "--dry-run")
    assert plan
    with pytest.raises(NotFound):
        eu.resolve("copied", "v3.0.0")
    assert "plan; nothing was changed" in run(fleet, "copy", "us/team/tool:v3.0.0", "eu/copied", "--dry-run").stdout
    first = answer(fleet, "copy", "us/team/tool:v3.0.0", "eu/copied", "gcp/copied:renamed")
    assert first["changed"] and first["digest"] == made.digest
    assert eu.resolve("copied", "v3.0.0").digest == made.digest
    assert fleet.chain.registry("gcp").resolve("copied", "renamed").digest == made.digest
    second = answer(fleet, "copy", "us/team/tool:v3.0.0", "eu/copied")
    assert not second["changed"] and second["targets"][0]["bytes"] == 0
    other = push(fleet.chain.place("tool"), "v3.0.1", package="other")
    kept = answer(fleet, "copy", f"us/team/tool@{other.digest}", "eu/copied:v3.0.0", "--keep-tags", code=6)
    assert not kept["ok"] and eu.resolve("copied", "v3.0.0").digest == made.digest


def test_mirror_and_collect(fleet: Fleet, tmp_path: Path) -> None:
    upstream = fleet.chain.registry("us")
    for tag in ("1.0", "1.1"):
        push(Place(upstream, "up/stream"), tag, version=tag, provenance=False)
    assert answer(fleet, "mirror")[0]["facts"]["tags_changed"] == 2
    assert answer(fleet, "mirror", "airgap")[0]["changed"] is False
    text = fleet.path.read_text()
    changed = tmp_path / "registry-pipelines.yaml"
    rules = "retention:\n  - {registry: dmz, keep_newest: 1, keep_days: 0, repositories: ['in/up/*']}\n"
    changed.write_text(text.replace("{source: advisories}", f"{{source: {fleet.folder}/advisories}}") + rules)
    there = Fleet(changed, fleet.config, fleet.chain)
    state = f"state: {fleet.config.state}\n"
    changed.write_text(state + changed.read_text())
    plan = tmp_path / "plan.json"
    [made] = answer(there, "collect", "plan", "dmz", "--save", str(plan))
    assert (made["facts"]["delete"], made["changed"]) == (1, False)
    assert len(list(fleet.chain.registry("dmz").tags("in/up/stream"))) == 2
    assert "delete" in run(there, "collect", "plan").stdout
    [applied] = answer(there, "collect", "apply", "dmz", str(plan))
    assert applied["facts"]["deleted"] >= 1
    assert len(list(fleet.chain.registry("dmz").tags("in/up/stream"))) == 1
    assert answer(there, "collect", "apply", "dmz", "--now")[1]["action"] == "unchanged"
    assert answer(there, "collect", "plan", "us", code=8)["error"]["what"] == "no retention rule names us"
    (tmp_path / "broken.json").write_text("{}")
    broken = answer(there, "collect", "apply", "dmz", str(tmp_path / "broken.json"), code=3)
    assert broken["error"]["what"] == "the plan is not signed"


def test_keys_are_generated_and_never_overwritten(fleet: Fleet, tmp_path: Path) -> None:
    made = answer(fleet, "sign", "--generate-key", "--key", str(tmp_path / "release.key"))
    assert (tmp_path / "release.pub").read_text().startswith("-----BEGIN PUBLIC KEY-----")
    assert made["private"] == str(tmp_path / "release.key")
    answer(fleet, "sign", "--generate-key", "--key", str(tmp_path / "release.key"), code=8)
    run(fleet, "sign", "--generate-key", "--key", str(tmp_path / "cosign.key"), "--form", "cosign")
    assert "ENCRYPTED" in (tmp_path / "cosign.key").read_text()
    answer(fleet, "sign", code=8)


def test_the_key_of_a_role_is_generated_where_the_configuration_names_it(fleet: Fleet, tmp_path: Path) -> None:
    roles = "{scanner: {key: scan.key}, person: {trusted: [me.pub]}}"
    (tmp_path / "roles.yaml").write_text(f"registries: {{disk: {{kind: layout, root: disk}}}}\nsigning: {roles}\n")
    there = Fleet(tmp_path / "roles.yaml", fleet.config, fleet.chain)
    made = answer(there, "sign", "--generate-key", "--role", "scanner")
    assert made["private"] == str(tmp_path / "scan.key")
    made = answer(there, "sign", "--generate-key", "--role", "builder")
    assert made["private"] == str(tmp_path / ".registry-pipelines" / "keys" / "signing.key")
    found = answer(there, "sign", "--generate-key", "--role", "person", code=8)
    assert "names no key of the person" in found["error"]["what"]
    answer(there, "sign", "v1", "--role", "person", code=8)


def test_a_command_that_has_nothing_to_do_says_so(tmp_path: Path) -> None:
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text("registries: {a: {kind: layout, root: a}}\nimages: {app: {registry: a, repository: app}}\n")

    def told(*words: str) -> str:
        done = CliRunner().invoke(main, [*words, "--config", str(path)])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert told("releases") == "the source registries hold no release\n"
    push(Chain(load(path)).place("app"), "v1.0.0", provenance=False)
    assert told("build") == "nothing is built: no image has a `build` or `dockerfile` section\n"
    assert (
        told("replicate", "app", "--check") == "images.app has no `targets`, so there is nothing to copy or compare\n"
    )
    assert told("mirror") == "nothing is mirrored: no mirror of the configuration has `upstreams` or `artifacts`\n"
    assert told("mirror", "--release", "app") == "nothing is mirrored: no mirror has app among its `images`\n"
    assert told("collect", "plan") == "all is kept: the configuration has no `retention` rules\n"
    assert answered(told("build", "--json")) == []


def test_config_commands(fleet: Fleet) -> None:
    assert answer(fleet, "config", "check")["images"] == 2
    assert "no problems (registries: 5, images: 2" in run(fleet, "config", "check").stdout
    assert document(run(fleet, "config", "schema", "--json").stdout)["result"] == schema()
    assert run(fleet, "config", "reference").stdout == reference_page()


def test_build_from_the_command_line(fleet: Fleet, tmp_path: Path) -> None:
    push(fleet.chain.place("tool"), "base", package="base", provenance=False)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "app.py").write_text("print(1)\n")
    changed = tmp_path / "registry-pipelines.yaml"
    build = (
        "build: {version: v1, base: 'us/team/tool:base', python: '3.11', application: source, platforms: [linux/amd64]}"
    )
    text = fleet.path.read_text().replace("repository: team/tool,", f"repository: team/built, {build},")
    changed.write_text(f"state: {fleet.config.state}\n" + text)
    there = Fleet(changed, fleet.config, fleet.chain)
    [first] = answer(there, "build")
    [second] = answer(there, "build", "tool")
    assert first["changed"] and not second["changed"] and second["digest"] == first["digest"]


@pytest.mark.peer("skopeo")
def test_a_folder_carries_an_image_across(fleet: Fleet, tmp_path: Path, peer: Callable[[str], str]) -> None:
    release = fleet.release("v8.0.0")
    for act in (fleet.chain.sbom, fleet.chain.vulnerabilities, fleet.chain.sign):
        act(release)
    changed = tmp_path / "registry-pipelines.yaml"
    text = fleet.path.read_text().replace("registries:\n", "registries:\n  disk: {kind: layout, root: disk}\n")
    changed.write_text(f"state: {fleet.config.state}\n{text}")
    there = Fleet(changed, fleet.config, fleet.chain)
    assert answer(there, "copy", "us/team/app:v8.0.0", "disk/app")["changed"]
    assert not answer(there, "copy", "us/team/app:v8.0.0", "disk/app")["changed"]
    verified = answer(there, "verify", "disk/app:v8.0.0", "--key", str(fleet.config.trusted_keys[0]))
    assert verified["digest"] == release.digest
    look = [peer("skopeo"), "inspect", "--format", "{{.Digest}}", f"oci:{tmp_path}/disk/app:v8.0.0"]
    assert subprocess.run(look, check=True, capture_output=True, text=True).stdout.strip() == release.digest
    assert answer(there, "copy", "disk/app:v8.0.0", "gcp/from/disk")["digest"] == release.digest


def test_sync_and_verify_copy(fleet: Fleet) -> None:
    source = fleet.chain.registry("us")
    digests = {
        (name, tag): push(Place(source, f"many/{name}"), tag, version=tag, package=name).digest
        for name in ("one", "two")
        for tag in ("1.0", "1.1", "nightly")
    }
    options = ["sync", "us", "eu/synced", "gcp", "--repositories", "many/*", "--tags", "1.*"]
    planned = answer(fleet, *options, "--dry-run")
    assert planned["dry_run"] and not planned["changed"] and len(planned["rows"]) == 8
    first = answer(fleet, *options)
    assert first["ok"] and first["changed"] and len(first["rows"]) == 8
    for (name, tag), digest in digests.items():
        if tag != "nightly":
            assert fleet.chain.registry("eu").resolve(f"synced/many/{name}", tag).digest == digest
            assert fleet.chain.registry("gcp").resolve(f"many/{name}", tag).digest == digest
    assert sorted(fleet.chain.registry("gcp").tags("many/one")) == ["1.0", "1.1"]
    second = answer(fleet, *options)
    assert (second["changed"], second["bytes_moved"]) == (False, 0)
    newest = answer(fleet, "sync", "us/many", "gcp/newest", "--repository", "one", "--newest", "1")
    assert [row["state"] for row in newest["rows"]] == ["copied"]
    assert list(fleet.chain.registry("gcp").tags("newest/many/one")) == ["1.1"]
    assert answer(fleet, "sync", "use", "gcp", code=8)["error"]["what"].startswith("unknown registry `use`")

    same = ("verify-copy", "us/many/one:1.1", "gcp/many/one")
    nothing = {"differences": [], "same_files": [], "not_compared": []}
    assert document(run(fleet, *same, "--content", "--json").stdout)["result"] == nothing
    assert "holds exactly" in run(fleet, *same).stdout
    push(Place(fleet.chain.registry("gcp"), "many/one"), "1.1", package="other")
    changed = answer(fleet, *same, code=6)
    assert [each["kind"] for each in changed["differences"]] == ["root"]
    assert "differs from" in run(fleet, *same, code=6).stdout


@pytest.mark.peer("cosign")
def test_an_sbom_is_signed_as_spdx_on_request(fleet: Fleet, tmp_path: Path, peer: Callable[[str], str]) -> None:
    release = fleet.release("v3.0.0")
    command = ("sbom", "app:v3.0.0", "--format", "spdx", "--attest", "--output", str(tmp_path / "sboms"))
    made, attested = document(run(fleet, *command, "--json").stdout)["result"]["results"]
    assert made["stage"] == attested["stage"] == "sbom"
    assert attested["action"] == "1 SPDX document attested" and attested["changed"]
    assert document(run(fleet, *command, "--json").stdout)["result"]["results"][1]["action"] == "unchanged"
    [file] = (tmp_path / "sboms").iterdir()
    assert file.name == "linux-amd64.spdx.json"
    cosign = Cosign(peer("cosign"), tmp_path / "home")
    image = f"{fleet.chain.place('app')}@{release.digest}"
    verified = cosign.verify_attestation(fleet.config.trusted_keys[0], "spdxjson", image)
    assert verified.returncode == 0, verified.stderr
    statement = json.loads(base64.b64decode(json.loads(verified.stdout.splitlines()[0])["payload"]))
    assert statement["predicate"] == json.loads(file.read_bytes())
    for wrong in (("sbom", "app", "--format", "spdx"), ("sbom", "app", "--attest")):
        answer(fleet, *wrong, code=8)
    answer(fleet, "sbom", f"us/team/app@{release.digest}", "--format", "spdx", "--attest", code=8)
