from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec import structs

from registry_pipelines.build.builder import PROVENANCE_ARTIFACT, BuildResult, BuildSpec
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.install import Scheme
from registry_pipelines.build.layers import LayersBuilder
from registry_pipelines.build.provenance import STATEMENT_TYPE
from registry_pipelines.build.resolving import resolve
from registry_pipelines.build.target import RUNNING_PYTHON
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.errors import (
    DiskFull,
    InputError,
    NotFound,
    PathConflict,
    RequirementsInvalid,
    TagImmutable,
)
from registry_pipelines.evidence.artifacts import attached
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.keys import generate_key, load_signer, verifier_of
from registry_pipelines.evidence.predicates import PROVENANCE_TYPE
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    Descriptor,
    Index,
    Manifest,
    manifest_bytes,
    read_image_config,
)
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import Counter
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.build.layers import DEBIAN, debian, entries, wheel_layer, written
from tests.build.wheels import make_wheel
from tests.doubles.docker_registry import DockerRegistry
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import HoldAnswer

AMD, ARM = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")
LARGE = 11 * 1024 * 1024
PINS = ("big==1.0", "arrays==1.0", "small==1.0")
"""Complete, so that only the first build of a test waits for pip."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedServer(tmp_path_factory.mktemp("registry")) as running:
        yield running.address


@pytest.fixture
def place(server: str, request: pytest.FixtureRequest) -> Place:
    return Place(DistributionRegistry(server), f"team/{abs(hash(request.node.name))}")


@pytest.fixture(scope="module")
def base(server: str) -> str:
    """A base image for two platforms, as another team would have pushed it; the tests look at layers, nothing runs."""
    place = Place(DistributionRegistry(server), "bases/python")
    children = []
    for platform in (AMD, ARM):
        raw, digests = written(debian)
        layer = push_blob(place, raw, media_type=media_types.DOCKER_LAYER_GZIP)
        config = {
            "architecture": platform.architecture,
            "os": "linux",
            "config": {
                "Env": ["PATH=/opt/bin:/bin", f"PYTHON_VERSION={RUNNING_PYTHON}.9"],
                "Labels": {"a": "b"},
                "User": "77",
            },
            "rootfs": {"type": "layers", "diff_ids": [digests.diff_id]},
            "history": [{"created_by": "base"}],
        }
        descriptor = push_blob(place, json.dumps(config).encode(), media_type=media_types.DOCKER_CONFIG)
        manifest = manifest_bytes(
            Manifest(schema_version=2, media_type=media_types.DOCKER_MANIFEST, config=descriptor, layers=(layer,))
        )
        place.registry.put_manifest(place.repository, manifest)
        children.append(replace_platform(manifest.descriptor, platform))
    index = Index(schema_version=2, media_type=media_types.DOCKER_INDEX, manifests=tuple(children))
    place.registry.put_manifest(place.repository, manifest_bytes(index), tag="slim")
    return f"{server}/bases/python:slim"


def replace_platform(descriptor: Descriptor, platform: Platform) -> Descriptor:
    return Descriptor(
        media_type=descriptor.media_type, digest=descriptor.digest, size=descriptor.size, platform=platform
    )


@pytest.fixture(scope="module")
def made_wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    noise = random.Random(7)
    make_wheel(folder, "big", "1.0", {"big/__init__.py": b"", "big/lib.so": noise.randbytes(LARGE)}, level=1)
    arrays = {"arrays/__init__.py": b"A = 1\n", "arrays/lib.so": noise.randbytes(LARGE)}
    make_wheel(folder, "arrays", "1.0", arrays, level=1)
    make_wheel(folder, "small", "1.0", requires=("arrays",))
    return folder


@pytest.fixture(scope="module")
def resolved(made_wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder in which pip has answered, and nothing was built."""
    state = tmp_path_factory.mktemp("state")
    cache = BuildCache(state / "build" / "cache.sqlite")
    spec = BuildSpec(name="demo", requirements=PINS, wheels=made_wheels)
    resolve(spec, DEBIAN, store=WheelStore(state / "build" / "wheels"), cache=cache)
    cache.close()
    return state


@pytest.fixture
def state(tmp_path: Path, resolved: Path) -> Path:
    return Path(shutil.copytree(resolved, tmp_path / "state"))


@pytest.fixture
def spec(tmp_path: Path, made_wheels: Path, base: str) -> BuildSpec:
    application = tmp_path / "application"
    application.mkdir()
    (application / "app.py").write_text("print('hello')\n")
    return BuildSpec(
        name="demo", base=base, requirements=PINS, wheels=made_wheels, application=application, version="v1"
    )


def manifest_of(place: Place, digest: Digest) -> Manifest:
    content = place.registry.get_manifest(place.repository, digest).content()
    assert isinstance(content, Manifest)
    return content


def test_an_image_is_built_and_a_second_build_changes_nothing(
    tmp_path: Path, state: Path, spec: BuildSpec, place: Place
) -> None:
    builder = LayersBuilder(state)
    first = builder.build(spec, place)
    assert first.changed
    assert first.tags[0] == "v1"
    assert place.registry.resolve(place.repository, "v1").digest == first.descriptor.digest

    counter = Counter()
    second = builder.build(spec, place, progress=counter)
    assert (second.changed, second.bytes_uploaded, counter.bytes_moved) == (False, 0, 0)
    assert second.descriptor == first.descriptor
    assert second.provenance == first.provenance
    assert {row.how for row in second.layers} == {"present"}

    elsewhere = LayersBuilder(tmp_path / "other state").build(spec, structs.replace(place, repository="other/repo"))
    assert elsewhere.descriptor == first.descriptor


def test_the_manifest_and_config_say_what_they_hold(tmp_path: Path, state: Path, spec: BuildSpec, place: Place) -> None:
    spec = structs.replace(spec, environment={"MODE": "x", "PATH": "/mine"}, labels={"team": "a"}, command=("serve",))
    result = LayersBuilder(state).build(spec, place)
    manifest = manifest_of(place, result.descriptor.digest)
    config = read_image_config(read_blob(place, manifest.config, limit=1 << 20))
    assert config.diff_ids == tuple(row.diff_id for row in result.layers)
    assert [layer.digest for layer in manifest.layers] == [row.digest for row in result.layers]
    assert {layer.media_type for layer in manifest.layers} == {media_types.OCI_LAYER_GZIP}
    assert config.config is not None
    assert config.config["Env"] == ["PATH=/mine", f"PYTHON_VERSION={RUNNING_PYTHON}.9", "MODE=x"]
    assert config.config["Labels"]["a"] == "b"
    assert config.config["Labels"]["team"] == "a"
    assert config.config["Labels"]["org.opencontainers.image.version"] == "v1"
    assert (config.config["User"], config.config["WorkingDir"], config.config["Cmd"]) == ("77", "/app", ["serve"])
    assert len(config.history or ()) == len(config.diff_ids)
    assert manifest.annotations is not None
    assert manifest.annotations["org.opencontainers.image.base.name"] == spec.base
    names = [row.contents for row in result.layers]
    assert names[0].startswith("base ")
    assert {"arrays 1.0", "big 1.0", "small 1.0", "application"} <= set(names)


def test_provenance_names_every_input_by_digest(tmp_path: Path, state: Path, spec: BuildSpec, place: Place) -> None:
    result = LayersBuilder(state, builder_id="https://ci.example/builder").build(spec, place)
    (document,) = attached(place, result.descriptor.digest, artifact_type=PROVENANCE_ARTIFACT)
    assert document.descriptor == result.provenance
    assert (document.manifest.annotations or {})["in-toto.io/predicate-type"] == "https://slsa.dev/provenance/v1"
    statement = json.loads(document.content)
    assert statement["_type"] == STATEMENT_TYPE
    assert statement["subject"][0]["digest"]["sha256"] == result.descriptor.digest.hex
    dependencies = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    named = {dependency["uri"]: dependency["digest"].get("sha256") for dependency in dependencies}
    for wheel in next(iter(result.lock.values())):
        assert named[wheel.purl] == wheel.sha256
    assert f"oci://{spec.base}" in named
    assert statement["predicate"]["runDetails"]["builder"]["id"] == "https://ci.example/builder"


def test_provenance_is_signed_when_it_is_written_and_once(
    tmp_path: Path, state: Path, spec: BuildSpec, place: Place
) -> None:
    LayersBuilder(state).build(spec, place)
    signer = load_signer(generate_key(tmp_path / "builder.key").private)
    builder = LayersBuilder(state, signer=signer)
    first = builder.build(spec, place)
    assert first.changed
    [signed] = read_attestations(place, first.descriptor.digest, verifier_of(signer)).verified
    [unsigned] = attached(place, first.descriptor.digest, artifact_type=PROVENANCE_ARTIFACT)
    assert (signed.predicate_type, signed.predicate) == (PROVENANCE_TYPE, json.loads(unsigned.content)["predicate"])
    referrers = place.registry.referrers(place.repository, first.descriptor.digest)
    assert not builder.build(spec, place).changed
    assert place.registry.referrers(place.repository, first.descriptor.digest) == referrers


def test_one_new_wheel_moves_its_layer_config_and_manifests_only(
    tmp_path: Path, state: Path, spec: BuildSpec, made_wheels: Path, place: Place
) -> None:
    """Counted twice: by the builder and by a proxy on the wire."""
    builder = LayersBuilder(state)
    with FaultRegistry(place.registry.name) as wire:
        place = Place(DistributionRegistry(wire.address), place.repository)
        builder.build(spec, place)
        wire.reset_counts()
        wheels = shutil.copytree(made_wheels, tmp_path / "wheels")
        path = make_wheel(wheels, "arrays", "1.1", {"arrays/lib.so": random.Random(8).randbytes(LARGE)}, level=1)
        pins = ("big==1.0", "arrays==1.1", "small==1.0")
        bumped = builder.build(structs.replace(spec, requirements=pins, wheels=wheels, version="v2"), place)
        assert wire.bytes_up == pytest.approx(bumped.bytes_uploaded, abs=2_000)
    moved = [row for row in bumped.layers if not row.reused]
    assert [row.contents for row in moved] == ["arrays 1.1"]
    assert bumped.bytes_uploaded - moved[0].size < 16_000
    assert moved[0].size == pytest.approx(path.stat().st_size, rel=0.001)


def test_a_new_application_moves_its_layer_only(tmp_path: Path, state: Path, spec: BuildSpec, place: Place) -> None:
    builder = LayersBuilder(state)
    builder.build(spec, place)
    assert spec.application
    (spec.application / "app.py").write_text("print('changed')\n")
    changed = builder.build(structs.replace(spec, version="v2"), place)
    assert [row.contents for row in changed.layers if not row.reused] == ["application"]
    assert changed.bytes_uploaded < 32_000


def test_another_image_of_the_registry_mounts_what_is_there(
    tmp_path: Path, state: Path, spec: BuildSpec, place: Place
) -> None:
    builder = LayersBuilder(state)
    builder.build(spec, place)
    other = builder.build(
        structs.replace(spec, name="other", requirements=PINS[1:]), structs.replace(place, repository="team/other")
    )
    assert {row.contents: row.how for row in other.layers if not row.contents.startswith("base ")} == {
        "arrays 1.0": "mounted",
        "small 1.0": "mounted",
        "application": "mounted",
    }


def test_several_platforms_give_an_index_that_skopeo_copies(
    tmp_path: Path, state: Path, spec: BuildSpec, place: Place, peer: Callable[[str], str]
) -> None:
    result = LayersBuilder(state).build(structs.replace(spec, platforms=(AMD, ARM)), place)
    index = place.registry.get_manifest(place.repository, "v1").content()
    assert isinstance(index, Index)
    assert [child.platform for child in index.manifests] == [AMD, ARM]
    (document,) = attached(place, result.descriptor.digest, artifact_type=PROVENANCE_ARTIFACT)
    covered = {subject["digest"]["sha256"] for subject in json.loads(document.content)["subject"]}
    assert covered == {result.descriptor.digest.hex, *(child.digest.hex for child in index.manifests)}
    assert not LayersBuilder(state).build(structs.replace(spec, platforms=(AMD, ARM)), place).changed

    skopeo = peer("skopeo")
    source = f"docker://{place.registry.name}/{place.repository}:v1"
    copy = [skopeo, "copy", "--all", "--quiet", "--src-tls-verify=false", source, f"oci:{tmp_path}/copied:v1"]
    subprocess.run(copy, check=True, capture_output=True)


def test_a_version_never_moves(tmp_path: Path, state: Path, spec: BuildSpec, place: Place) -> None:
    builder = LayersBuilder(state)
    first = builder.build(spec, place)
    assert spec.application
    (spec.application / "app.py").write_text("print('changed')\n")
    with pytest.raises(TagImmutable, match="version v1"):
        builder.build(spec, place)
    assert place.registry.resolve(place.repository, "v1").digest == first.descriptor.digest


def test_without_a_version_the_tag_is_the_digest(tmp_path: Path, state: Path, spec: BuildSpec, place: Place) -> None:
    result = LayersBuilder(state).build(structs.replace(spec, version=""), place)
    assert result.tags == (f"build-{result.descriptor.digest.hex[:12]}",)


def git(folder: Path, *arguments: str, date: str = "2026-02-03T04:05:06Z") -> str:
    author = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {
        **os.environ,
        **author,
        "GIT_COMMITTER_DATE": date,
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    done = subprocess.run(["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_commit_gives_tags_labels_and_provenance(tmp_path: Path, state: Path, spec: BuildSpec, place: Place) -> None:
    assert spec.application
    git(spec.application, "init", "-q")
    git(spec.application, "remote", "add", "origin", "https://me:hunter2@git.example/team/app.git")
    git(spec.application, "add", "app.py")
    git(spec.application, "commit", "-qm", "first")
    commit = git(spec.application, "rev-parse", "HEAD")
    result = LayersBuilder(state).build(spec, place)
    assert result.tags == ("v1", f"20260203-040506-{commit[:7]}", f"git-{commit[:12]}")
    (document,) = attached(place, result.descriptor.digest, artifact_type=PROVENANCE_ARTIFACT)
    assert "hunter2" not in document.content.decode()
    dependencies = json.loads(document.content)["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {
        "uri": "git+https://git.example/team/app.git",
        "digest": {"gitCommit": commit},
        "annotations": {"dirty": False},
    } in dependencies

    (spec.application / "app.py").write_text("print('not committed')\n")
    dirty = LayersBuilder(state).build(structs.replace(spec, version="v2"), place)
    assert dirty.tags == ("v2",)
    manifest = manifest_of(place, dirty.descriptor.digest)
    assert "org.opencontainers.image.revision" not in (manifest.annotations or {})
    said = "no commit tags and no revision label: packed files were changed since the commit: app.py"
    assert (result.warnings, dirty.warnings) == ((), (said,))
    (document,) = attached(place, dirty.descriptor.digest, artifact_type=PROVENANCE_ARTIFACT)
    definition = json.loads(document.content)["predicate"]["buildDefinition"]
    assert definition["internalParameters"]["warnings"] == [said]


def test_a_commit_that_cannot_be_told_gives_an_image_without_commit_and_says_so(
    tmp_path: Path, state: Path, spec: BuildSpec, place: Place
) -> None:
    assert spec.application
    git(spec.application, "init", "-q")
    git(spec.application, "add", "app.py")
    git(spec.application, "commit", "-qm", "first")
    (spec.application / "app.py").write_text("print(2)\n")
    git(spec.application, "commit", "-qam", "second")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{spec.application}", "shallow")
    LayersBuilder(state).build(spec, place)
    shallow = structs.replace(spec, application=tmp_path / "shallow")
    result = LayersBuilder(state).build(structs.replace(shallow, version="v2"), place)
    assert result.tags == ("v2",)
    assert "the clone is shallow" in result.warnings[0]
    manifest = manifest_of(place, result.descriptor.digest)
    assert not {"org.opencontainers.image.revision", "org.opencontainers.image.created"} & set(
        manifest.annotations or {}
    )
    (document,) = attached(place, result.descriptor.digest, artifact_type=PROVENANCE_ARTIFACT)
    assert "gitCommit" not in document.content.decode()
    with pytest.raises(TagImmutable, match="the clone is shallow"):
        LayersBuilder(state).build(shallow, place)


def test_a_commit_of_the_future_is_said_and_not_written_down(state: Path, spec: BuildSpec, place: Place) -> None:
    assert spec.application
    git(spec.application, "init", "-q")
    git(spec.application, "add", "app.py")
    git(spec.application, "commit", "-qm", "first", date="2099-01-01T00:00:00Z")
    result = LayersBuilder(state).build(spec, place)
    assert "is in the future: 2099-01-01T00:00:00Z" in result.warnings[0]
    (document,) = attached(place, result.descriptor.digest, artifact_type=PROVENANCE_ARTIFACT)
    assert b"future" not in document.content


def test_nothing_is_sent_when_anything_is_wrong(
    tmp_path: Path, state: Path, spec: BuildSpec, made_wheels: Path, place: Place
) -> None:
    wheels = shutil.copytree(made_wheels, tmp_path / "wheels")
    make_wheel(wheels, "rival", "1.0", {"arrays/__init__.py": b"A = 2\n"})
    builder = LayersBuilder(state)
    cases: list[tuple[type[Exception], BuildSpec]] = [
        (PathConflict, structs.replace(spec, requirements=(*PINS, "rival"), wheels=wheels)),
        (RequirementsInvalid, structs.replace(spec, requirements=("big", "absent"), wheels=wheels)),
        (InputError, structs.replace(spec, application=tmp_path / "gone")),
        (InputError, structs.replace(spec, environment={"A=B": "c"})),
        (InputError, structs.replace(spec, workdir="relative")),
        (InputError, structs.replace(spec, platforms=(AMD, AMD))),
        (InputError, structs.replace(spec, base="python", platforms=(Platform.parse("linux/s390x"),))),
        (InputError, structs.replace(spec, base="python", python="3.1")),
        (InputError, structs.replace(spec, python="2.7")),
        (NotFound, structs.replace(spec, base=spec.base.replace("slim", "gone"))),
    ]
    for expected, wrong in cases:
        with pytest.raises(expected):
            builder.build(wrong, place)
    with pytest.raises(NotFound):
        list(place.registry.tags(place.repository))


def test_a_wheel_damaged_in_the_store_is_taken_anew(tmp_path: Path, state: Path, spec: BuildSpec, place: Place) -> None:
    builder = LayersBuilder(state)
    first = builder.build(spec, place)
    stored = next(state.rglob("arrays-1.0*.whl"))
    whole = stored.read_bytes()
    stored.unlink()  # a link to the folder's file, which stays as it is
    stored.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    (state / "build" / "cache.sqlite").unlink()
    again = builder.build(spec, structs.replace(place, repository="team/fresh"))
    assert again.descriptor == first.descriptor
    assert stored.read_bytes() == whole


def test_registries_without_chunks_get_the_layer_from_a_spool_file(
    tmp_path: Path, state: Path, spec: BuildSpec
) -> None:
    place = Place(LayoutRegistry(tmp_path / "layouts"), "team/app")
    builder = LayersBuilder(state)
    result = builder.build(spec, place)
    assert not builder.build(spec, place).changed
    assert not list((state / "transfer" / "spool").iterdir())
    raw = read_blob(place, manifest_of(place, result.descriptor.digest).layers[-1], limit=1 << 20)
    assert entries(raw)["app/app.py"][1] == b"print('hello')\n"


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, state: Path, spec: BuildSpec) -> None:
    place = Place(LayoutRegistry(tmp_path / "layouts"), "team/app")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, before[1]))
    try:
        with pytest.raises(DiskFull):
            LayersBuilder(state).build(spec, place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((state / "transfer" / "spool").iterdir())
    assert LayersBuilder(state).build(spec, place).changed


def test_two_builds_at_once_share_a_state_folder(
    tmp_path: Path, made_wheels: Path, spec: BuildSpec, server: str
) -> None:
    def build(number: int) -> BuildResult:
        place = Place(DistributionRegistry(server), f"both/{number}")
        return LayersBuilder(tmp_path / "shared").build(spec, place)

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(build, range(2))
    assert one.descriptor == two.descriptor


KILLED = """
import sys
from pathlib import Path
from registry_pipelines.build import layers
from registry_pipelines.build.builder import BuildSpec
from registry_pipelines.build.layers import LayersBuilder
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place

layers.WORKERS = 2  # at the third layer's request one of the first two is stored and remembered
address, state, wheels, base, *pins = sys.argv[1:]
spec = BuildSpec(name="demo", base=base, requirements=tuple(pins), wheels=Path(wheels), version="v1")
LayersBuilder(Path(state)).build(spec, Place(DistributionRegistry(address), "killed/app"))
"""


def test_a_build_that_was_killed_goes_on_and_sends_finished_layers_once(
    state: Path, made_wheels: Path, base: str, server: str
) -> None:
    spec = BuildSpec(name="demo", base=base, requirements=PINS, wheels=made_wheels, version="v1")
    with FaultRegistry(server) as faults:
        # The last request of the fourth blob never returns; by then the base's and one of the large are stored.
        release = threading.Event()
        faults.play("PUT", r"/v2/killed/app/blobs/uploads/.*", HoldAnswer(release), skip=3)
        arguments = [faults.address, str(state), str(made_wheels), base, *PINS]
        with subprocess.Popen([sys.executable, "-c", KILLED, *arguments], stderr=subprocess.PIPE) as process:
            while len(faults.requests("PUT", r"/v2/killed/app/blobs/uploads/.*")) < 4:
                assert process.poll() is None, process.stderr and process.stderr.read()
                time.sleep(0.01)
            process.kill()
        release.set()
        faults.clear()
        place = Place(DistributionRegistry(faults.address), "killed/app")
        with pytest.raises(NotFound):
            place.registry.resolve("killed/app", "v1")
        finished = LayersBuilder(state).build(spec, place)
        assert place.registry.resolve("killed/app", "v1").digest == finished.descriptor.digest
        assert any(row.how == "present" for row in finished.layers if row.contents in ("big 1.0", "arrays 1.0"))
    assert not LayersBuilder(state).build(spec, Place(DistributionRegistry(server), "killed/app")).changed


def test_layers_stream_into_docker_registry(
    tmp_path: Path, state: Path, spec: BuildSpec, peer: Callable[[str], str]
) -> None:
    assert spec.wheels
    with DockerRegistry(peer("docker-registry"), tmp_path / "registry") as registry:
        place = Place(DistributionRegistry(registry.address), "team/app")
        result = LayersBuilder(state).build(spec, place)
        assert not LayersBuilder(state).build(spec, place).changed
        big = next(row for row in result.layers if row.contents == "big 1.0")
        descriptor = Descriptor(media_type=media_types.OCI_LAYER_GZIP, digest=big.digest, size=big.size)
        expected = wheel_layer(next(spec.wheels.glob("big*")), scheme=Scheme.of(RUNNING_PYTHON), byte_code=True)
        assert read_blob(place, descriptor, limit=1 << 25) == expected
    assert not (state / "transfer" / "spool").exists()


def test_a_base_from_another_registry_is_copied(tmp_path: Path, state: Path, spec: BuildSpec) -> None:
    with EmbeddedServer(tmp_path / "second") as second:
        place = Place(DistributionRegistry(second.address), "team/app")
        result = LayersBuilder(state).build(spec, place)
        assert result.layers[0].how == "copied"
        assert place.registry.blob_size(place.repository, result.layers[0].digest) == result.layers[0].size
