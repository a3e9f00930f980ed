"""Real runtimes pull images by their own names, with no way to where those names lead: the files alone bring them to
the private registry."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from registry_pipelines.chain import StageResult
from registry_pipelines.mirror.model import ClusterForm
from registry_pipelines.oci.digest import Digest
from tests.doubles.certificates import make_certificates
from tests.doubles.containerd import Containerd, containerd
from tests.doubles.cut_off import CutOff, cut_off
from tests.doubles.docker_daemon import daemon
from tests.mirror.clusters.behind import fill, written

UPSTREAMS = "{image: docker.io/library/app}, {image: quay.io/team/tool}"
KEEPING = "prefix: in\n    keep_host: true"
PLAIN = "prefix: in"
VERSIONS = pytest.mark.parametrize(
    "programs",
    [
        pytest.param(("containerd", "ctr"), id="the system's"),
        pytest.param(("../containerd2/containerd", "../containerd2/ctr"), id="2", marks=pytest.mark.long),
    ],
)


@pytest.fixture(scope="module")
def network() -> Iterator[CutOff]:
    with cut_off() as network:
        yield network


@contextmanager
def behind(
    network: CutOff, folder: Path, form: ClusterForm, settings: str, *, upstreams: str = UPSTREAMS, tls: bool = False
) -> Iterator[tuple[StageResult, dict[str, str], str]]:
    """A registry in the network that has all that the files tell of: the answer, the digests by name, its address."""
    with ExitStack() as stack:
        options: list[str] = []
        more = ""
        if tls:
            made = make_certificates(folder / "tls")
            options = ["--tls-cert", str(made.certificate), "--tls-key", str(made.key)]
            more = f", ca_file: {made.ca}"
        host = stack.enter_context(network.registry(folder / "root", *options))
        result = written(folder, form, host=host, upstreams=upstreams, more=more, plain=not tls, settings=settings)
        yield result, fill(folder / "root", result), host


@contextmanager
def runtime(network: CutOff, peer: Callable[[str], str], programs: tuple[str, str]) -> Iterator[Containerd]:
    found = [network.wrapped(peer(each)) for each in programs]
    with tempfile.TemporaryDirectory(prefix="ctrd-") as folder, containerd(found[0], found[1], Path(folder)) as client:
        yield client


@pytest.mark.peer("containerd", "ctr")
@VERSIONS
def test_containerd_finds_every_image_under_its_own_name(
    network: CutOff, peer: Callable[[str], str], programs: tuple[str, str], tmp_path: Path
) -> None:
    """Over TLS with an authority that only ``hosts.toml`` names, below the host in the path and without it."""
    with runtime(network, peer, programs) as ctr:
        for number, (settings, tls) in enumerate(((KEEPING, True), (PLAIN, False))):
            folder = tmp_path / str(number)
            folder.mkdir()
            with behind(network, folder, "hosts-toml", settings, tls=tls) as (_, digests, _):
                assert set(digests) == {"docker.io/library/app", "quay.io/team/tool", "eu.example.com/ml/app"}
                references = {f"{name}:v1": digest for name, digest in digests.items()}
                by_digest = f"quay.io/team/tool@{digests['quay.io/team/tool']}"
                for reference in (*references, by_digest):
                    ctr("images", "pull", "--hosts-dir", str(folder / "hosts-toml"), reference)
                found = {row.split()[0]: row.split()[2] for row in ctr("images", "ls").splitlines()[1:]}
                assert found == {**references, by_digest: digests["quay.io/team/tool"]}
                ran = ctr("run", "--rm", "--net-host", "docker.io/library/app:v1", f"one-{number}")
                assert ran == "hello docker.io/library/app\n"
                ctr("images", "rm", "--sync", *found)
                # The upstream is asked for nothing, and so the message is about the image, not about a lost network.
                for reference in ("docker.io/library/app:v9", "quay.io/team/other:v1"):
                    with pytest.raises(AssertionError, match="not found"):
                        ctr("images", "pull", "--hosts-dir", str(folder / "hosts-toml"), reference)


@pytest.mark.peer("skopeo")
@pytest.mark.parametrize(
    ("settings", "upstreams"),
    [(KEEPING, UPSTREAMS), (PLAIN, "{image: docker.io/library/app, repository: renamed/other}")],
)
def test_skopeo_finds_every_image_under_its_own_name(
    network: CutOff, peer: Callable[[str], str], settings: str, upstreams: str, tmp_path: Path
) -> None:
    with behind(network, tmp_path, "registries-conf", settings, upstreams=upstreams) as (result, digests, host):
        [row] = result.rows
        skopeo = [peer("skopeo"), "--insecure-policy", "--registries-conf", str(row["file"]), "copy"]
        for number, (name, digest) in enumerate(digests.items()):
            for reference in (f"{name}:v1", f"{name}@{digest}"):
                done = network.run(*skopeo, f"docker://{reference}", f"dir:{tmp_path}/{number}")
                assert done.returncode == 0, done.stderr
                assert Digest.of((tmp_path / f"{number}/manifest.json").read_bytes()) == digest
        missing = network.run(*skopeo, "docker://docker.io/library/app:v9", f"dir:{tmp_path}/missing")
        assert missing.returncode and f"reading manifest v9 in {host}/" in missing.stderr


@pytest.mark.peer("dockerd", "docker")
def test_docker_takes_docker_hubs_images_from_the_mirror(
    network: CutOff, peer: Callable[[str], str], tmp_path: Path
) -> None:
    """By a daemon whose only settings are the file."""
    with behind(network, tmp_path, "docker", "") as (result, digests, _):
        [row] = result.rows
        dockerd = network.wrapped(peer("dockerd"))
        with (
            tempfile.TemporaryDirectory(prefix="dockerd-") as folder,
            daemon(dockerd, peer("docker"), Path(folder), ["--config-file", str(row["file"])]) as docker,
        ):
            assert "Status: Downloaded newer image for app:v1" in docker("pull", "app:v1")
            [found] = json.loads(docker("image", "inspect", "app:v1"))
            assert found["RepoDigests"] == [f"app@{digests['docker.io/library/app']}"]
            assert docker("run", "--rm", "--network", "host", "app:v1") == "hello docker.io/library/app\n"
            with pytest.raises(AssertionError, match=r"quay\.io"):
                docker("pull", "quay.io/team/tool:v1")
    assert any("quay.io/team/tool as " in note for note in result.notes)
    assert any("Docker shows it to 127.0.0.1:" in note for note in result.notes)
