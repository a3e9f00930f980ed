"""Independent programs against the embedded server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.embedded import EmbeddedServer
from tests.registry.wire import ask, push_image

Peer = Callable[[str], str]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished


@pytest.mark.peer("skopeo")
def test_skopeo_copies_to_and_from_the_server(tmp_path: Path, peer: Peer) -> None:
    skopeo = peer("skopeo")
    policy = ("--insecure-policy",)
    with EmbeddedServer(tmp_path / "one") as one, EmbeddedServer(tmp_path / "two", require_complete=True) as two:
        digest = push_image(one, "team/app", b"a layer" * 10_000, "v1")
        source, target = f"docker://{one.address}/team/app:v1", f"docker://{two.address}/copy:v2"
        plain = ("--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests")
        run(skopeo, *policy, "copy", *plain, source, target)
        assert ask(two, "HEAD", "/v2/copy/manifests/v2").headers["Docker-Content-Digest"] == digest
        run(skopeo, *policy, "copy", *plain, target, f"oci:{tmp_path}/out:v3")
        run(skopeo, *policy, "copy", *plain, f"oci:{tmp_path}/out:v3", f"docker://{one.address}/back:v3")
        assert ask(one, "HEAD", "/v2/back/manifests/v3").headers["Docker-Content-Digest"] == digest
        listed = run(skopeo, "list-tags", "--tls-verify=false", f"docker://{one.address}/back").stdout
        assert json.loads(listed)["Tags"] == ["v3"]
        run(skopeo, "delete", "--tls-verify=false", f"docker://{one.address}/back:v3")
        assert ask(one, "GET", "/v2/back/manifests/v3").status == 404


@pytest.mark.peer("skopeo")
def test_skopeo_reads_the_folder_of_the_server(tmp_path: Path, peer: Peer) -> None:
    with EmbeddedServer(tmp_path) as server:
        digest = push_image(server, "team/app", b"a layer", "v1")
        shown = run(peer("skopeo"), "inspect", "--raw", f"oci:{tmp_path}/team/app:v1").stdout
    assert Digest.of(shown.encode()) == digest


@pytest.mark.peer("skopeo")
@pytest.mark.parametrize("tokens", [False, True])
def test_skopeo_logs_in(tmp_path: Path, peer: Peer, tokens: bool) -> None:
    skopeo = peer("skopeo")
    with (
        EmbeddedServer(tmp_path / "open") as source,
        EmbeddedServer(tmp_path / "closed", users={"ana": "secret"}, tokens=tokens) as server,
    ):
        digest = push_image(source, "app", b"a layer", "v1")
        copy = (skopeo, "--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false")
        places = (f"docker://{source.address}/app:v1", f"docker://{server.address}/app:v1")
        run(*copy, "--preserve-digests", "--dest-creds=ana:secret", *places)
        inspect = (skopeo, "inspect", "--tls-verify=false", "--format={{.Digest}}", f"docker://{server.address}/app:v1")
        assert run(*inspect, "--creds=ana:secret").stdout.strip() == digest
        refused = subprocess.run([*inspect, "--creds=ana:wrong"], capture_output=True, check=False)
        assert refused.returncode != 0


@pytest.mark.peer("oras")
def test_oras_attaches_and_discovers(tmp_path: Path, peer: Peer) -> None:
    oras = peer("oras")
    (tmp_path / "note.txt").write_text("checked")
    with EmbeddedServer(tmp_path / "root") as server:
        digest = push_image(server, "app", b"a layer", "v1")
        place = f"{server.address}/app@{digest}"
        attach = (oras, "attach", "--plain-http", "--disable-path-validation", "--artifact-type=text/x-note", place)
        run(*attach, str(tmp_path / "note.txt"))
        referrers = ask(server, "GET", f"/v2/app/referrers/{digest}?artifactType=text/x-note").json["manifests"]
        assert len(referrers) == 1
        discovered = run(oras, "discover", "--plain-http", "--format=json", place).stdout
        assert referrers[0]["digest"] in discovered


@pytest.mark.peer("crane")
def test_crane_validates_a_copy(tmp_path: Path, peer: Peer) -> None:
    crane = peer("crane")
    with EmbeddedServer(tmp_path / "one") as one, EmbeddedServer(tmp_path / "two") as two:
        digest = push_image(one, "app", b"a layer", "v1")
        run(crane, "copy", "--insecure", f"{one.address}/app:v1", f"{two.address}/app:v1")
        assert run(crane, "digest", "--insecure", f"{two.address}/app:v1").stdout.strip() == digest
        assert run(crane, "catalog", "--insecure", two.address).stdout.split() == ["app"]
        assert run(crane, "ls", "--insecure", f"{two.address}/app").stdout.split() == ["v1"]
