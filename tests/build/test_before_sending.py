"""Whatever is wrong with what goes into an image is found before a registry is asked to take anything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec import structs

from registry_pipelines.build.builder import PROVENANCE_ARTIFACT, BuildSpec
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.layers import LayersBuilder
from registry_pipelines.build.resolving import resolve
from registry_pipelines.build.target import RUNNING_PYTHON
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.cli import main
from registry_pipelines.errors import InputError, PathConflict, TagImmutable, WheelInvalid
from registry_pipelines.evidence.artifacts import attached
from registry_pipelines.oci import media_types
from registry_pipelines.oci.manifests import Manifest, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.answers import answered
from tests.build.layers import DEBIAN, debian, entries, written
from tests.build.wheels import make_wheel, record_hash
from tests.doubles.fault_registry import FaultRegistry

GOOD = tuple(f"good{number}==1.0" for number in range(1, 9))
BAD = (*GOOD, "zz-bad==1.0")
CHANGED = (*GOOD, "zz-changed==1.0")
SITE = f"usr/local/lib/python{RUNNING_PYTHON}/site-packages"
RULE = {"tests/*": "good8"}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight wheels, two of which bring their tests; and one whose entry point no installer can make a program of."""
    folder = tmp_path_factory.mktemp("wheels")
    for number in range(1, 9):
        shared = {"tests/__init__.py": f"NUMBER = {number}\n".encode()} if number >= 7 else {}
        unknown = {"good1/__init__.py": ""} if number == 1 else {}
        make_wheel(folder, f"good{number}", files={f"good{number}/__init__.py": b"", **shared}, record=unknown)
    make_wheel(folder, "zz-bad", entry_points="[console_scripts]\nrun = zz_bad\n")
    row = {"zz_changed.py": f"zz_changed.py,{record_hash(b'before')},5"}
    make_wheel(folder, "zz-changed", files={"zz_changed.py": b"after"}, record=row)
    return folder


@pytest.fixture(scope="module")
def resolved(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder in which pip has answered, and nothing was built."""
    state = tmp_path_factory.mktemp("state")
    cache = BuildCache(state / "build" / "cache.sqlite")
    for pins in (GOOD, BAD, CHANGED):
        spec = BuildSpec(name="demo", requirements=pins, wheels=wheels)
        resolve(spec, DEBIAN, store=WheelStore(state / "build" / "wheels"), cache=cache)
    cache.close()
    return state


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(LayoutRegistry(tmp_path_factory.mktemp("bases")), "bases/python")
    raw, digests = written(debian)
    config = {
        "architecture": Platform.here().architecture,
        "os": "linux",
        "config": {"Env": [f"PYTHON_VERSION={RUNNING_PYTHON}.9"]},
        "rootfs": {"type": "layers", "diff_ids": [digests.diff_id]},
    }
    layer = push_blob(place, raw, media_type=media_types.OCI_LAYER_GZIP)
    descriptor = push_blob(place, json.dumps(config).encode(), media_type=media_types.OCI_CONFIG)
    manifest = Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=descriptor, layers=(layer,))
    place.registry.put_manifest(place.repository, manifest_bytes(manifest), tag="slim")
    return place


@pytest.fixture
def builder(tmp_path: Path, resolved: Path, bases: Place) -> LayersBuilder:
    state = Path(shutil.copytree(resolved, tmp_path / "state"))
    return LayersBuilder(state, open_place=lambda text: (bases, text.rpartition(":")[2]))


@pytest.fixture
def spec(tmp_path: Path, wheels: Path) -> BuildSpec:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "app.py").write_text("print('hello')\n")
    return BuildSpec(
        name="demo",
        base="bases/python:slim",
        requirements=GOOD,
        wheels=wheels,
        application=tmp_path / "app",
        version="v1",
        conflicts=RULE,
    )


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[FaultRegistry]:
    with EmbeddedServer(tmp_path / "registry") as server, FaultRegistry(server.address) as faults:
        yield faults


@pytest.fixture
def place(wire: FaultRegistry) -> Place:
    return Place(DistributionRegistry(wire.address), "team/app")


def changes(wire: FaultRegistry) -> int:
    """Requests that ask the registry to take, mount or remove something."""
    return sum(len(wire.requests(method, ".*")) for method in ("POST", "PUT", "PATCH", "DELETE"))


def test_one_bad_wheel_among_nine_sends_nothing(
    builder: LayersBuilder, spec: BuildSpec, place: Place, wire: FaultRegistry
) -> None:
    with pytest.raises(WheelInvalid, match=r"zz_bad-1\.0.*is not module:attribute"):
        builder.build(structs.replace(spec, requirements=BAD), place)
    assert changes(wire) == 0
    builder.build(spec, place)
    assert changes(wire) > 0


def test_a_file_that_is_not_what_record_says_leaves_no_manifest_and_no_tag(
    builder: LayersBuilder, spec: BuildSpec, place: Place, wire: FaultRegistry
) -> None:
    """Contents come to light while they pass."""
    with pytest.raises(WheelInvalid, match=r"zz_changed\.py: its sha256 is not what RECORD says"):
        builder.build(structs.replace(spec, requirements=CHANGED), place)
    assert not wire.requests("PUT", ".*/manifests/.*")


def test_conflicts_and_rules_that_settle_nothing_send_nothing(
    builder: LayersBuilder, spec: BuildSpec, place: Place, wire: FaultRegistry, tmp_path: Path
) -> None:
    with pytest.raises(PathConflict, match=r"tests/__init__\.py: good7-1\.0.* and good8-1\.0"):
        builder.build(structs.replace(spec, conflicts={}), place)
    for rules in ({"tests/*": "absent"}, {**RULE, "else/*": "good8"}, {**RULE, "tests/*.txt": "application"}):
        with pytest.raises(InputError, match="cannot win there"):
            builder.build(structs.replace(spec, conflicts=rules), place)
    with pytest.raises(PathConflict, match="the application folder"):
        (tmp_path / "app" / "good1").mkdir()
        (tmp_path / "app" / "good1" / "__init__.py").write_text("mine")
        builder.build(structs.replace(spec, workdir=f"/{SITE}"), place)
    assert changes(wire) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"interpreter": "python3"},
        {"interpreter": "/opt/my python/bin/python"},
        {"interpreter": "/" + "x" * 200},
        {"site_packages": "/usr/../lib"},
        {"site_packages": "/opt/my env/lib/python3.12/site-packages"},
        {"user": "a:b:c"},
        {"user": "some one"},
        {"labels": {"": "x"}},
        {"command": ("a\0b",)},
    ],
)
def test_settings_that_no_image_can_have_send_nothing(
    builder: LayersBuilder, spec: BuildSpec, place: Place, wire: FaultRegistry, wrong: dict[str, str]
) -> None:
    with pytest.raises(InputError):
        builder.build(structs.replace(spec, **wrong), place)  # type: ignore[arg-type]
    assert len(wire.requests("GET", ".*")) == changes(wire) == 0


def test_a_stored_wheel_that_was_written_to_is_taken_anew(
    builder: LayersBuilder, spec: BuildSpec, place: Place, tmp_path: Path
) -> None:
    before = builder.build(spec, structs.replace(place, repository="team/before"))
    stored = next((tmp_path / "state").rglob("good3-1.0*.whl"))
    raw = bytearray(stored.read_bytes())
    raw[raw.index(b"good3/__init__.py") + 20] ^= 1
    stored.unlink()
    stored.write_bytes(raw)
    assert builder.build(spec, place).descriptor == before.descriptor


def test_a_version_that_is_something_else_sends_nothing(
    builder: LayersBuilder, spec: BuildSpec, place: Place, wire: FaultRegistry, tmp_path: Path
) -> None:
    first = builder.build(spec, place)
    wire.reset_counts()
    (tmp_path / "app" / "app.py").write_text("print('changed')\n")
    with pytest.raises(TagImmutable, match="version v1"):
        builder.build(spec, place)
    assert changes(wire) == 0
    assert place.registry.resolve(place.repository, "v1").digest == first.descriptor.digest


def test_a_version_that_is_this_image_sends_nothing_even_when_the_cache_is_lost(
    builder: LayersBuilder, spec: BuildSpec, place: Place, wire: FaultRegistry, tmp_path: Path
) -> None:
    first = builder.build(spec, place)
    wire.reset_counts()
    for path in (tmp_path / "state" / "build").glob("cache.sqlite*"):
        path.unlink()
    again = builder.build(spec, place)
    assert (again.changed, again.descriptor) == (False, first.descriptor)
    assert changes(wire) == 0


def test_who_won_stands_in_the_image_the_result_and_the_provenance(
    builder: LayersBuilder, spec: BuildSpec, place: Place
) -> None:
    """The layers of another image that lets the other one win are others, though the wheels are the same."""
    winners = {}
    for winner, loser in (("good8", "good7"), ("good7", "good8")):
        result = builder.build(structs.replace(spec, conflicts={"tests/*": winner}, version=winner), place)
        (conflict,) = result.conflicts
        assert conflict.path == f"/{SITE}/tests/__init__.py"
        assert (conflict.winner, conflict.losers) == (f"pkg:pypi/{winner}@1.0", (f"pkg:pypi/{loser}@1.0",))
        manifest = place.registry.get_manifest(place.repository, result.descriptor.digest).content()
        assert isinstance(manifest, Manifest)
        layers = [entries(read_blob(place, layer, limit=1 << 20)) for layer in manifest.layers]
        (winners[winner],) = [
            entries_of_layer[f"{SITE}/tests/__init__.py"][1]
            for entries_of_layer in layers
            if f"{SITE}/tests" in entries_of_layer
        ]
        records = {
            project: next(
                entries_of_layer[path][1]
                for entries_of_layer in layers
                if (path := f"{SITE}/{project}-1.0.dist-info/RECORD") in entries_of_layer
            )
            for project in (winner, loser)
        }
        assert record_hash(winners[winner]).encode() in records[winner]
        assert b"tests/" not in records[loser]
        (statement,) = attached(place, result.descriptor.digest, artifact_type=PROVENANCE_ARTIFACT)
        definition = json.loads(statement.content)["predicate"]["buildDefinition"]
        assert definition["externalParameters"]["conflicts"] == [{"path": "tests/*", "wins": winner}]
        (settled,) = definition["internalParameters"]["settledConflicts"]
        assert (settled["winner"], settled["losers"]) == (conflict.winner, list(conflict.losers))
    assert winners == {"good8": b"NUMBER = 8\n", "good7": b"NUMBER = 7\n"}


def test_what_was_let_pass_stands_in_result_and_provenance(
    builder: LayersBuilder, spec: BuildSpec, place: Place
) -> None:
    result = builder.build(spec, place)
    note = "RECORD has no hash that can be checked of: good1/__init__.py"
    assert result.notes == {"good1-1.0-py3-none-any.whl": (note,)}
    (statement,) = attached(place, result.descriptor.digest, artifact_type=PROVENANCE_ARTIFACT)
    dependencies = json.loads(statement.content)["predicate"]["buildDefinition"]["resolvedDependencies"]
    annotations = {
        dependency["name"]: dependency.get("annotations") for dependency in dependencies if "name" in dependency
    }
    assert annotations.pop("good1-1.0-py3-none-any.whl") == {"notes": [note]}
    assert set(annotations.values()) == {None}


def test_the_command_says_who_won_and_what_was_let_pass(
    bases: Place, resolved: Path, wheels: Path, tmp_path: Path
) -> None:
    """The whole way from the configuration to a registry that is a folder."""
    shutil.copytree(resolved, tmp_path / "state")
    shutil.copytree(wheels, tmp_path / "wheels")
    assert isinstance(bases.registry, LayoutRegistry)
    config = tmp_path / "registry-pipelines.yaml"
    config.write_text(f"""\
state: state
registries:
  bases: {{kind: layout, root: {bases.registry.root}}}
  here: {{kind: layout, root: registry}}
images:
  demo:
    registry: here
    repository: team/demo
    build:
      version: v1
      base: bases/bases/python:slim
      wheels: wheels
      requirements: [{", ".join(GOOD)}]
      conflicts: {{"tests/*": Good8}}
""")
    done = CliRunner().invoke(main, ["build", "demo", "--json", "--config", str(config)])
    assert done.exit_code == 0, done.output
    notes = answered(done.stdout)[0]["notes"]
    assert "good1-1.0-py3-none-any.whl: RECORD has no hash that can be checked of: good1/__init__.py" in notes
    tests = f"/{SITE}/tests/__init__.py"
    assert f"{tests} is the file of pkg:pypi/good8@1.0; left out: that of pkg:pypi/good7@1.0" in notes
    config.write_text(config.read_text().replace("Good8", "absent"))
    failed = CliRunner().invoke(main, ["build", "demo", "--config", str(config)])
    assert (failed.exit_code, "absent cannot win there" in failed.output) == (8, True)
