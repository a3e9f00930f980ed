"""Images from Dockerfiles by a real BuildKit: what is pushed, what stands in the provenance, what goes wrong."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from registry_pipelines.build.builder import PROVENANCE_ARTIFACT
from registry_pipelines.build.dockerfile.builder import DockerfileBuilder
from registry_pipelines.build.dockerfile.engines.protocol import CacheReference
from registry_pipelines.build.dockerfile.model import BuildSecret
from registry_pipelines.errors import (
    BuildFailed,
    ContentError,
    DiskFull,
    InputError,
    NotFound,
    TagImmutable,
    ToolMissing,
)
from registry_pipelines.evidence.artifacts import attached
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.keys import generate_key, load_signer, load_verifier
from registry_pipelines.evidence.predicates import PROVENANCE_TYPE
from registry_pipelines.oci.manifests import Index
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import Silent
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import Duration
from tests.build.dockerfile.kit import LIMITS_S, SECRET, Kit, contents, processes, project, spec
from tests.doubles.docker_daemon import own_docker
from tests.patience import patient


class Told(Silent):
    """Everything that progress told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begin(self, task: str, *, total_bytes: int | None = None, group: str = "") -> None:
        self.lines.append(task)

    def end(self, task: str, *, note: str = "") -> None:
        self.lines.append(f"{task}: {note}")


def cache_of(kit: Kit, repository: str) -> CacheReference:
    return CacheReference(kit.place(repository), "buildcache", plain_http=True)


def predicate_of(place: Place, result: Any) -> dict[str, Any]:
    (only,) = attached(place, result.descriptor.digest, artifact_type=PROVENANCE_ARTIFACT)
    statement = json.loads(only.content)
    named = {subject["digest"]["sha256"] for subject in statement["subject"]}
    assert named == {each.digest.hex for each in (result.descriptor, *result.manifests)}
    predicate: dict[str, Any] = statement["predicate"]
    return predicate


def inspected(peer: Callable[[str], str], reference: str) -> dict[str, Any]:
    command = [peer("skopeo"), "inspect", "--config", "--tls-verify=false", f"docker://{reference}"]
    config: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return config


def test_the_image_its_provenance_its_cache_and_the_secret_nowhere(
    kit: Kit, peer: Callable[[str], str], tmp_path: Path
) -> None:
    told, key = Told(), tmp_path / "builder.key"
    generate_key(key)
    context, place = project(tmp_path / "context"), kit.place("team/app")
    builder = DockerfileBuilder(tmp_path / "state", cache=cache_of(kit, "team/app-cache"), signer=load_signer(key))
    wanted = spec(kit, context, labels={"team": "vision"})
    result = builder.build(wanted, place, progress=told)

    assert result.changed and result.tags == ("v1.0.0",) and "buildx" in result.engine
    config = inspected(peer, f"{kit.server}/team/app:v1.0.0")
    assert config["config"]["Labels"]["team"] == "vision"
    assert config["config"]["Labels"]["org.opencontainers.image.version"] == "v1.0.0"
    assert config["created"] == "1980-01-01T00:00:00Z"  # no commit, no clock
    raw = place.registry.get_manifest(place.repository, "v1.0.0")
    assert raw.digest == result.descriptor.digest and not isinstance(raw.content(), Index)
    assert [row.how for row in result.layers] == ["uploaded"] * 3
    assert result.layers[-1].contents.startswith("RUN /bin/sh -c echo last > /last")

    predicate = predicate_of(place, result)
    definition = predicate["buildDefinition"]
    base = place.registry.resolve("bases/shell", "1").digest
    assert definition["resolvedDependencies"] == [{"uri": f"oci://{kit.base}", "digest": {"sha256": base.hex}}]
    assert definition["externalParameters"]["args"]["GREETING"] == "hi"
    assert definition["externalParameters"]["secrets"] == ["token"]
    steps = definition["internalParameters"]["steps"]["linux/amd64"]
    assert {"run": ["/bin/sh", "-c", "echo last > /last"], "line": 10} in steps
    signed = read_attestations(place, result.descriptor.digest, load_verifier([key.with_suffix(".pub")]))
    assert [each.predicate_type for each in signed.of_type(PROVENANCE_TYPE)] == [PROVENANCE_TYPE]

    # Nothing runs again for the same files, and other files are another version.
    again = builder.build(wanted, place)
    assert (again.changed, again.descriptor.digest, again.engine) == (False, result.descriptor.digest, "")
    (context / "app.txt").write_text("other\n")
    with pytest.raises(TagImmutable, match="built of other files"):
        builder.build(wanted, place)

    # Another machine: BuildKit knows nothing but the registry's cache, and takes every step from there.
    kit.forget()
    (context / "app.txt").write_text("app\n")
    elsewhere = DockerfileBuilder(tmp_path / "other state", cache=cache_of(kit, "team/app-cache"))
    second = elsewhere.build(structs.replace(wanted, version="v1.0.1"), place)
    ran = [step.name for step in second.steps if not step.cached and "] RUN" in step.name]
    assert not ran and any("] RUN cat" in step.name for step in second.steps if step.cached)
    # The version stands in a label; all layers are the same.
    assert [row.digest for row in second.layers] == [row.digest for row in result.layers]
    assert {row.how for row in second.layers} == {"present"}

    # Without any cache, the same digest: the steps run again, and every time in the image is that of the source.
    kit.forget()
    third = DockerfileBuilder(tmp_path / "third").build(wanted, kit.place("rebuilt/app"))
    assert not any(step.cached for step in third.steps) and third.descriptor.digest == result.descriptor.digest

    assert any("RUN --mount=type=secret" in line for line in told.lines)
    for where, content in [*kit.contents(), *contents(tmp_path / "state"), ("progress", repr(told.lines).encode())]:
        assert SECRET.encode() not in content, where
    assert SECRET not in repr((result, second, predicate))
    assert not list((tmp_path / "state/build/dockerfile").iterdir())


def test_a_failed_step_is_shown_with_its_line_its_last_lines_and_no_secret(kit: Kit, tmp_path: Path) -> None:
    dockerfile = """\
ARG BASE
FROM ${BASE}
COPY app.txt /
RUN --mount=type=secret,id=token echo begun; cat /run/secrets/token; \\
    echo nearly there && \\
    ls /nowhere
"""
    place, told = kit.place("failing/app"), Told()
    with pytest.raises(BuildFailed) as caught:
        builder = DockerfileBuilder(tmp_path / "state")
        builder.build(spec(kit, project(tmp_path / "context", dockerfile)), place, progress=told)
    error = caught.value
    assert error.line == 4 and "3/3] RUN --mount=type=secret" in error.step
    said = "\n".join(error.last_lines)
    assert all(words in said for words in ("begun", "***", "nearly there", "ls: /nowhere: No such file or directory"))
    assert error.where.endswith("Dockerfile:4") and error.exit_code == 1
    assert SECRET not in str(error) + repr(told.lines)
    with pytest.raises(NotFound):
        place.registry.resolve(place.repository, "v1.0.0")


def test_a_step_that_takes_too_long_is_ended_with_its_processes(kit: Kit, tmp_path: Path) -> None:
    context = project(tmp_path / "context", "ARG BASE\nFROM ${BASE}\nRUN echo waiting && sleep 31547\n")
    for seconds in LIMITS_S:
        wanted = spec(kit, context, time_limit=Duration(seconds=seconds))
        with pytest.raises(BuildFailed, match=f"took longer than {seconds} s") as caught:
            DockerfileBuilder(tmp_path / "state").build(wanted, kit.place("slow/app"))
        if caught.value.last_lines:
            break
    assert caught.value.last_lines == ["waiting"]
    deadline = time.monotonic() + patient(30)
    while processes(["sleep", "31547"]):
        assert time.monotonic() < deadline, "the step runs on"
        time.sleep(0.05)


def test_several_platforms_are_one_index_without_attestations(kit: Kit, tmp_path: Path) -> None:
    context = project(tmp_path / "context", "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH.txt /which.txt\n")
    for name in ("amd64", "arm64"):
        (context / f"{name}.txt").write_text(name)
    platforms = (Platform.parse("linux/amd64"), Platform.parse("linux/arm64"))
    place = kit.place("wide/app")
    result = DockerfileBuilder(tmp_path / "state").build(spec(kit, context, platforms=platforms), place)
    index = place.registry.get_manifest(place.repository, "v1.0.0").content()
    assert isinstance(index, Index)
    assert [child.platform for child in index.manifests] == list(platforms)
    assert [child.digest for child in index.manifests] == [each.digest for each in result.manifests]
    steps = predicate_of(place, result)["buildDefinition"]["internalParameters"]["steps"]
    assert sorted(steps) == ["linux/amd64", "linux/arm64"]


@pytest.mark.parametrize(
    ("dockerfile", "where"),
    [
        ("FROM ${BASE}\nRUN --mount=type=secret,id=token cp /run/secrets/token /tmp/netrc\n", "/tmp/netrc of layer"),
        # The image has nothing of the first stage, and the cache has all of it.
        (
            "FROM ${BASE} AS first\nRUN --mount=type=secret,id=token cp /run/secrets/token /tmp/conf && echo 1 > /a\n"
            "FROM ${BASE}\nCOPY --from=first /a /\n",
            "/tmp/conf of layer",
        ),
    ],
)
def test_a_secret_that_a_step_writes_somewhere_is_found_before_anything_is_pushed(
    kit: Kit, tmp_path: Path, dockerfile: str, where: str
) -> None:
    place = kit.place("leaking/app")
    builder = DockerfileBuilder(tmp_path / "state", cache=cache_of(kit, "leaking/cache"))
    wanted = spec(kit, project(tmp_path / "context", f"ARG BASE\n{dockerfile}"))
    with pytest.raises(ContentError, match=where) as caught:
        builder.build(wanted, place)
    assert SECRET not in str(caught.value)
    assert not (kit.store / place.repository).exists() and not (kit.store / "leaking/cache").exists()


def test_a_secret_is_no_argument_and_no_label(kit: Kit, tmp_path: Path) -> None:
    builder, context = DockerfileBuilder(tmp_path / "state"), project(tmp_path / "context")
    for fields in ({"args": {"BASE": kit.base, "GREETING": f"x{SECRET}"}}, {"labels": {"key": SECRET}}):
        with pytest.raises(InputError, match="holds the value of a secret") as caught:
            builder.build(spec(kit, context, **fields), kit.place("telling/app"))
        assert SECRET not in str(caught.value)


def test_a_full_disk_is_said_with_its_folder(kit: Kit, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", state], check=True)
    try:
        with pytest.raises(DiskFull, match="no space is left for what the engine makes"):
            DockerfileBuilder(state).build(spec(kit, project(tmp_path / "context")), kit.place("full/app"))
    finally:
        subprocess.run(["umount", state], check=True)


@pytest.mark.parametrize(
    ("dockerfile", "error", "match"),
    [
        ("FROM {server}/bases/vanished:1\n", BuildFailed, "bases/vanished:1 cannot be had"),
        ("FROM {server}/bases/shell:1\nCOPY missing.txt /\n", BuildFailed, "missing.txt"),
        ("FRM scratch\n", InputError, "FRM"),
    ],
)
def test_what_is_wrong_is_said(kit: Kit, tmp_path: Path, dockerfile: str, error: type[Exception], match: str) -> None:
    context = project(tmp_path / "context", dockerfile.format(server=kit.server))
    with pytest.raises(error, match=match):
        DockerfileBuilder(tmp_path / "state").build(spec(kit, context), kit.place("wrong/app"))


def test_no_engine_is_said_with_what_each_lacks(kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = spec(kit, project(tmp_path / "context"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(ToolMissing, match="Cannot connect to the Docker daemon"):
        DockerfileBuilder(tmp_path / "state").build(structs.replace(wanted, engine="buildx"), kit.place("none/app"))
    monkeypatch.delenv("TOKEN")
    with pytest.raises(InputError, match="variable TOKEN is empty or not there"):
        DockerfileBuilder(tmp_path / "state").build(wanted, kit.place("none/app"))


def test_what_killed_builds_left_is_removed_and_what_runs_is_left_alone(kit: Kit, tmp_path: Path) -> None:
    work = tmp_path / "state/build/dockerfile"
    for name in ("build-killed", "build-running"):
        (work / name / "layout").mkdir(parents=True)
    held = os.open(work / "build-running", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        context = project(tmp_path / "context", "FROM scratch\nCOPY app.txt /\n")
        DockerfileBuilder(tmp_path / "state").build(spec(kit, context), kit.place("swept/app"))
        assert [path.name for path in work.iterdir()] == ["build-running"]
    finally:
        os.close(held)


def test_the_state_folder_never_goes_to_the_engine(kit: Kit, tmp_path: Path) -> None:
    context = project(tmp_path / "context")
    builder = DockerfileBuilder(context / ".registry-pipelines")
    with pytest.raises(InputError, match=r"state folder \.registry-pipelines lies in the context"):
        builder.build(spec(kit, context), kit.place("state/app"))


@pytest.mark.long
def test_a_daemon_with_the_old_store_builds_too_and_says_what_it_cannot(
    kit: Kit, peer: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker 20: its BuildKit has no OCI exporter, attests nothing, and writes no cache."""
    wanted = spec(kit, project(tmp_path / "context"))
    with own_docker(peer) as docker:
        monkeypatch.setenv("DOCKER_HOST", docker.environment["DOCKER_HOST"])
        place = kit.place("old/app")
        result = DockerfileBuilder(tmp_path / "state").build(structs.replace(wanted, engine="buildx"), place)
        base = place.registry.resolve("bases/shell", "1").digest
        dependencies = predicate_of(place, result)["buildDefinition"]["resolvedDependencies"]
        assert dependencies == [{"uri": f"oci://{kit.base}", "digest": {"sha256": base.hex}}]
        assert any("old store" in text for text in result.warnings)
        assert inspected(peer, f"{kit.server}/old/app:v1.0.0")["created"] == "1980-01-01T00:00:00Z"
        cached = DockerfileBuilder(tmp_path / "other", cache=cache_of(kit, "old/cache"))
        with pytest.raises(ToolMissing, match="docker driver of buildx cannot make the build cache"):
            cached.build(structs.replace(wanted, version="v2", engine="buildx"), place)


def test_paths_may_have_commas_and_quotes(kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BuildKit's programs read options as CSV; a context named ``-`` would be their standard input."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / 'a,src="b'
    folder.mkdir()
    (folder / "token").write_text(SECRET)
    project(tmp_path / "-", "ARG BASE\nFROM ${BASE}\nRUN --mount=type=secret,id=token wc -c /run/secrets/token > /n\n")
    wanted = spec(kit, Path("-"), secrets={"token": BuildSecret(file=folder / "token")})
    assert DockerfileBuilder(folder / "state").build(wanted, kit.place("named/app")).changed


def test_a_step_ends_with_the_process_that_asked_for_it_also_when_that_is_killed(kit: Kit, tmp_path: Path) -> None:
    context = project(tmp_path / "context", "ARG BASE\nFROM ${BASE}\nRUN sleep 31548\n")
    code = (
        "import sys\nfrom pathlib import Path\nfrom tests.build.dockerfile.kit import Kit, spec\n"
        "from registry_pipelines.build.dockerfile.builder import DockerfileBuilder\n"
        "kit = Kit({}, sys.argv[1], Path(), '')\n"
        "DockerfileBuilder(Path(sys.argv[2])).build(spec(kit, Path(sys.argv[3])), kit.place('killed/app'))\n"
    )
    command = [sys.executable, "-c", code, kit.server, str(tmp_path / "state"), str(context)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[3]) as ours:
        wait_for(lambda: bool(processes(["sleep", "31548"])))
        ours.kill()
    wait_for(lambda: not processes(["sleep", "31548"]))


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patient(30)
    while not true():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.05)
