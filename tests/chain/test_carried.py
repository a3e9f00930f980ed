"""Advisories and wheels as artifacts: pushed where the internet is, copied as images are, used behind the gap."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from registry_pipelines.build.wheel_sets import SetWheel, WheelSet
from registry_pipelines.chain import Chain
from registry_pipelines.chain.advisory_artifacts import KIND as ADVISORIES
from registry_pipelines.chain.wheels import KIND as WHEELS
from registry_pipelines.chain.wheels import Asked
from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.errors import (
    AdvisoriesMissing,
    ContentError,
    DigestMismatch,
    EvidenceMissing,
    InputError,
    ManifestInvalid,
    NotFound,
    RequirementsInvalid,
)
from registry_pipelines.evidence.attestations import attest
from registry_pipelines.evidence.keys import generate_key, load_signer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest, artifact_manifest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.advisory_sets import current_set
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.file_sets import TITLE, Kind
from tests.answers import answered
from tests.build.wheels import make_wheel
from tests.chain.fleet import Fleet, start
from tests.doubles.osv_export import OsvExport, malicious, small_set
from tests.scan.images import push_image

FAR = """\
registries:
  private: {{kind: distribution, host: "{host}"}}
images:
  app:
    registry: private
    repository: far/app
    build: {{version: v1, base: "private/base:v1", python: "3.12", libc: none, platforms: [linux/amd64],
      requirements: [top], wheels_from: private/in/wheels:latest, application: source}}
signing: {{key: {key}, trusted: [{trusted}]}}
advisories: {{feed: null}}
"""
CARRYING = """\
  carrying: {to: private, prefix: in, artifacts: ["dmz/advisories:latest"]}
  broken: {to: private, prefix: in, artifacts: ["dmz/advisories:latest", "dmz/nothing:there"]}
"""


@dataclass
class Gap:
    """Two sides: the near one with the feed and the index, the far one with a registry that was filled."""

    near: Chain
    far: Chain
    folder: Path

    def cross(self, repository: str, tag: str = "latest") -> Digest:
        """What a mirror or a bundle does with an artifact."""
        source = Place(self.near.registry("dmz"), repository)
        digest = source.registry.resolve(repository, tag).digest
        copy_closure(source, digest, [Place(self.near.registry("private"), f"in/{repository}")], tags=[tag])
        return digest


@pytest.fixture(scope="module")
def export() -> Iterator[OsvExport]:
    with OsvExport(small_set()) as export:
        yield export


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, export: OsvExport) -> Iterator[Fleet]:
    with ExitStack() as stack:
        fleet = start(tmp_path_factory.mktemp("near"), stack)
        fleet.chain = fleet.reload(
            ("{source: advisories}", f"{{feed: '{export.url}', ecosystems: [PyPI, Debian]}}"),
            ("mirrors:\n", f"mirrors:\n{CARRYING}"),
        )
        yield fleet


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Two wheels of three; pip is asked once, since the folder stays as it is."""
    folder = tmp_path_factory.mktemp("index")
    for version in ("1.0", "2.0"):
        make_wheel(folder, "leaf", version)
    make_wheel(folder, "top", requires=("leaf<2",))
    (folder / "requirements.txt").write_text("top\n")
    return Asked(requirements=folder / "requirements.txt", wheels=folder)


@pytest.fixture
def gap(fleet: Fleet, tmp_path: Path) -> Gap:
    key = generate_key(tmp_path / "far.key").private
    fleet.chain.config.state.mkdir(exist_ok=True)
    if not fleet.chain.config.trusted_keys[0].exists():
        assert fleet.chain.config.signing_key
        generate_key(fleet.chain.config.signing_key)
    path = tmp_path / "registry-pipelines.yaml"
    host = fleet.chain.registry("private").name
    path.write_text(FAR.format(host=host, key=key, trusted=fleet.chain.config.trusted_keys[0]))
    (tmp_path / "source").mkdir()
    (tmp_path / "source/app.py").write_text("print('far')\n")
    return Gap(fleet.chain, Chain(load(path, {})), tmp_path)


def test_the_far_side_scans_with_what_the_near_side_fetched(gap: Gap, export: OsvExport) -> None:
    with pytest.raises(NotFound):
        gap.far.pull_advisories("private/in/advisories")
    gap.near.update_advisories()
    pushed = gap.near.push_advisories("dmz/advisories")
    assert pushed.changed and pushed.facts["reference"] == f"{gap.near.registry('dmz').name}/advisories:latest"
    again = gap.near.push_advisories("dmz/advisories")
    assert (again.changed, again.bytes_moved, again.digest) == (False, 0, pushed.digest)
    planned = gap.near.mirror("carrying", dry_run=True)
    assert [row["state"] for row in planned.rows] == ["to be copied"]
    brought = gap.near.mirror("carrying")
    assert [(row["digest"], row["state"]) for row in brought.rows] == [(pushed.digest, "copied")] and brought.ok
    broken = gap.near.mirror("broken")
    assert [str(row["state"]).partition(":")[0] for row in broken.rows] == ["unchanged", "failed"] and not broken.ok
    assert "dmz/nothing:there" in broken.reasons[0]
    pulled = gap.far.pull_advisories("private/in/advisories")
    assert pulled.changed and pulled.bytes_moved > 0
    near, far = (current_set(chain.config.state) for chain in (gap.near, gap.far))
    assert near and far and near.description.digest == far.description.digest and far.is_whole()
    assert gap.far.pull_advisories("private/in/advisories").bytes_moved == 0
    time.sleep(1.05)  # how old a set is is told to the second
    # One record more: of the files only those of its ecosystem are sent, and read on the other side.
    export.put(malicious("MAL-2026-77", "stolen"))
    gap.near.update_advisories()
    more = gap.near.push_advisories("dmz/advisories")
    assert more.changed and 0 < more.bytes_moved < pushed.bytes_moved
    gap.cross("advisories")
    assert 0 < gap.far.pull_advisories("private/in/advisories").bytes_moved <= more.bytes_moved
    # An older set is left where it is: whoever replays one would make findings vanish.
    old = gap.far.pull_advisories(f"private/in/advisories@{pushed.digest}")
    assert not old.changed and "the set in use is newer" in old.notes[0]
    far = current_set(gap.far.config.state)
    assert far and far.description.newest == str(more.facts["newest"])


def test_a_set_that_nobody_believed_vouches_for_is_not_used(gap: Gap, tmp_path: Path) -> None:
    gap.near.update_advisories()
    digest = gap.near.push_advisories("dmz/strange/advisories").digest
    source = Place(gap.near.registry("dmz"), "strange/advisories")
    target = Place(gap.near.registry("private"), "in/unsigned")
    stored = source.registry.get_manifest(source.repository, digest)
    content = stored.content()
    assert isinstance(content, Manifest)
    for layer in [*content.layers, content.config]:
        assert layer is not None
        with source.registry.open_blob(source.repository, layer.digest) as blob:
            target.registry.upload_blob(target.repository, layer, blob)
    target.registry.put_manifest(target.repository, stored, tag="latest")
    with pytest.raises(EvidenceMissing, match="nobody who is believed vouches for an advisory set"):
        gap.far.pull_advisories("private/in/unsigned")
    gap.cross("strange/advisories")
    other = generate_key(tmp_path / "other.key")
    path = gap.far.config.path
    path.write_text(path.read_text().replace(str(gap.near.config.trusted_keys[0]), str(other.public)))
    with pytest.raises(EvidenceMissing, match="trusted key"):
        Chain(load(path, {})).pull_advisories("private/in/strange/advisories")
    assert current_set(gap.far.config.state) is None


def test_what_is_pushed_needs_a_set_a_key_and_a_tag(gap: Gap, asked: Asked) -> None:
    with pytest.raises(InputError, match="names a digest"):
        gap.near.push_advisories(f"dmz/advisories@sha256:{'0' * 64}")
    gap.near.push_wheels("dmz/typed", asked)
    with pytest.raises(InputError, match="is not an advisory set"):
        gap.near.pull_advisories("dmz/typed")
    with pytest.raises(AdvisoriesMissing, match="no advisory set was fetched"):
        gap.far.push_advisories("private/advisories")


def test_a_build_behind_the_gap_takes_its_wheels_from_a_reference(gap: Gap, asked: Asked) -> None:
    """With pip as judge: the folder that is pulled installs without an index, each file held against its hash."""
    pushed = gap.near.push_wheels("dmz/wheels", asked)
    assert [(row["wheel"], row["version"]) for row in pushed.rows] == [("leaf", "1.0"), ("top", "1.0")]
    assert gap.near.push_wheels("dmz/wheels", asked).changed is False
    gap.cross("wheels")
    out = gap.folder / "out"
    pulled = gap.far.pull_wheels("private/in/wheels", out)
    assert pulled.digest == pushed.digest and pulled.bytes_moved == pushed.facts["bytes"]
    assert gap.far.pull_wheels("private/in/wheels", out).changed is False
    install = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(out), "--require-hashes"]
    install += ["-r", str(out / "requirements.txt"), "--target", str(gap.folder / "site"), "--quiet"]
    subprocess.run(install, check=True, capture_output=True)
    assert (gap.folder / "site/top").is_dir() and (gap.folder / "site/leaf-1.0.dist-info").is_dir()
    push_image(Place(gap.near.registry("private"), "base"), [{"etc/os-release": "ID=test\n"}], tag="v1")
    old = gap.far.config.state / "wheel-sets/old"
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    made = gap.far.build("app")
    assert [path.name for path in old.parent.iterdir()] == [Digest.parse(pushed.digest).hex]
    assert made.facts["wheels"] == 2 and made.facts["wheels_from"] == f"private/in/wheels:latest@{pushed.digest}"
    inputs = {str(row["uri"]) for row in gap.far.provenance(gap.far.find_release("app:v1")).rows}
    assert {"pkg:pypi/top@1.0", "pkg:pypi/leaf@1.0"} <= inputs
    # A damaged file in the folder is fetched anew, and one that is not of the set is named.
    (out / "leaf-1.0-py3-none-any.whl").write_bytes(b"damaged")
    make_wheel(out, "other")
    repaired = gap.far.pull_wheels("private/in/wheels", out)
    assert repaired.changed and "other-1.0-py3-none-any.whl" in repaired.notes[0]


def test_wheels_are_chosen_as_a_build_does(gap: Gap) -> None:
    for tag in ("cp312-cp312-manylinux_2_17_x86_64", "cp312-cp312-manylinux_2_17_aarch64"):
        make_wheel(gap.folder / "index", "fast", tag=tag)
    (gap.folder / "r.txt").write_text("fast\n")
    sources = Asked(requirements=gap.folder / "r.txt", wheels=gap.folder / "index")
    arm = dataclasses.replace(sources, platforms=["linux/arm64"], python="3.12", libc="glibc-2.31")
    [row] = gap.near.push_wheels("dmz/fast", arm).rows
    assert str(row["file"]).endswith("aarch64.whl")
    with pytest.raises(InputError, match="chosen by the C library"):
        gap.near.push_wheels("dmz/fast", dataclasses.replace(sources, platforms=["linux/s390x"]))
    (gap.folder / "r.txt").write_text("# nothing\n")
    with pytest.raises(RequirementsInvalid, match="name no package"):
        gap.near.push_wheels("dmz/fast", sources)
    with pytest.raises(InputError, match="either a requirements file"):
        gap.near.push_wheels("dmz/fast", Asked())
    with pytest.raises(InputError, match="no build section"):
        gap.near.push_wheels("dmz/fast", Asked(image="app"))


def test_one_line_pins_the_files_of_all_platforms() -> None:
    wheel = SetWheel(name="fast", version="1.0", filename="a.whl", sha256="1" * 64, size=1)
    other = replace(wheel, filename="b.whl", sha256="2" * 64)
    newer = replace(wheel, name="late", version="1"), replace(wheel, name="late", version="2")
    found = WheelSet(requirements=("fast",), targets=("x", "y"), wheels=(wheel, other, *newer))
    lines = found.lock().splitlines()
    assert lines[-1] == f"fast==1.0 --hash=sha256:{'1' * 64} --hash=sha256:{'2' * 64}"
    assert [line for line in lines if "late" in line and not line.startswith("#")] == []


def renamed(manifest: Manifest) -> Manifest:
    """A file of the set under a name that leaves the folder."""
    first, *files = manifest.layers
    moved = [replace(each, annotations={TITLE: f"../{number}.zip"}) for number, each in enumerate(files)]
    return replace(manifest, layers=(first, *moved))


def shortened(manifest: Manifest) -> Manifest:
    """A file fewer than its document says."""
    return replace(manifest, layers=manifest.layers[:-1])


@pytest.mark.parametrize("kind", [ADVISORIES, WHEELS], ids=["advisories", "wheels"])
@pytest.mark.parametrize("change", [renamed, shortened])
def test_a_set_that_is_made_to_deceive_is_refused_whoever_signed_it(
    gap: Gap, asked: Asked, kind: Kind, change: Callable[[Manifest], Manifest]
) -> None:
    name = f"bad/{kind.what.split()[-1]}/{change.__name__}"
    if kind is ADVISORIES:
        gap.near.update_advisories()
        gap.near.push_advisories(f"dmz/{name}:one")
    else:
        gap.near.push_wheels(f"dmz/{name}:one", asked)
    place = Place(gap.near.registry("dmz"), name)
    content = place.registry.get_manifest(place.repository, "one").content()
    assert isinstance(content, Manifest)
    changed = change(content)
    made = artifact_manifest(artifact_type=kind.artifact_type, layers=changed.layers, subject=None)
    place.registry.put_manifest(place.repository, made, tag="two")
    assert gap.near.config.signing_key
    attest(place, made.descriptor, kind.predicate_type, {}, load_signer(gap.near.config.signing_key))
    pull = gap.near.pull_advisories if kind is ADVISORIES else lambda ref: gap.near.pull_wheels(ref, gap.folder / "out")
    before = current_set(gap.near.config.state)
    with pytest.raises(ManifestInvalid):
        pull(f"dmz/{name}:two")
    assert current_set(gap.near.config.state) == before and not (gap.folder / "out").exists()


def test_other_bytes_under_a_files_digest_change_nothing(gap: Gap) -> None:
    gap.near.update_advisories()
    gap.near.push_advisories("dmz/damaged")
    gap.cross("damaged")
    root = gap.near.config.registries["private"].root or gap.near.config.state / "registries" / "private"
    content = Place(gap.near.registry("private"), "in/damaged").registry.get_manifest("in/damaged", "latest").content()
    assert isinstance(content, Manifest)
    for layer in content.layers[1:]:
        for path in Path(root).rglob(layer.digest.hex):
            raw = bytearray(path.read_bytes())
            raw[-1] ^= 1
            path.unlink()
            path.write_bytes(raw)
    with pytest.raises((DigestMismatch, ContentError)):
        gap.far.pull_advisories("private/in/damaged")
    assert current_set(gap.far.config.state) is None


NAME = st.from_regex(r"[a-z0-9]{1,3}(-[a-z]{1,2})?", fullmatch=True)
WHEEL = st.builds(
    SetWheel,
    name=NAME,
    version=st.sampled_from(["1.0", "2!1.0+cpu", "1.0rc1"]),
    filename=NAME.map("{}.whl".format),
    sha256=st.integers(0, 1 << 256).map("{:064x}".format).filter(lambda text: len(text) == 64),
    size=st.integers(0, 1 << 50),
)
LISTED = st.lists(WHEEL, max_size=4).map(tuple)


@settings(max_examples=40)
@given(LISTED, st.data())
def test_a_description_of_wheels_comes_back_or_is_refused(wheels: tuple[SetWheel, ...], data: st.DataObject) -> None:
    found = WheelSet(requirements=("x",), targets=("linux/amd64, Python 3.12",), wheels=wheels)
    raw = found.encode()
    assert WheelSet.decode(raw, where="here") == found
    lines = found.lock().splitlines()
    assert all(line.startswith("# ") or re.fullmatch(r"\S+==\S+( --hash=sha256:[0-9a-f]{64})+", line) for line in lines)
    position = data.draw(st.integers(0, len(raw) - 1))
    changed = bytearray(raw)
    changed[position] = data.draw(st.integers(0, 255))
    with suppress(ManifestInvalid):
        assert isinstance(WheelSet.decode(bytes(changed), where="here"), WheelSet)


@pytest.mark.parametrize("field", ["name", "version", "filename", "sha256"])
def test_a_description_brings_no_line_of_its_own(field: str) -> None:
    """``requirements.txt`` is read by pip, and an option in it chooses another index."""
    wheel = SetWheel(name="a", version="1", filename="a.whl", sha256="0" * 64, size=1)
    for bad in ("a\n--index-url http://evil.example.com", "a b", "", "../a.whl"):
        found = WheelSet(requirements=(), targets=(), wheels=(replace(wheel, **{field: bad}),))
        with pytest.raises(ManifestInvalid):
            WheelSet.decode(found.encode(), where="here")
    with pytest.raises(ManifestInvalid):
        WheelSet.decode(WheelSet(requirements=(), targets=("x\n-e .",), wheels=(wheel,)).encode(), where="here")


@pytest.mark.peer("oras")
def test_other_clients_take_the_files_of_a_set(gap: Gap, asked: Asked, peer: Callable[[str], str]) -> None:
    pushed = gap.near.push_wheels("dmz/for-oras", asked)
    place = Place(gap.near.registry("dmz"), "for-oras")
    out = gap.folder / "oras"
    subprocess.run([peer("oras"), "pull", "--plain-http", f"{place}:latest", "-o", str(out)], check=True)
    assert asked.wheels is not None
    names = [str(row["file"]) for row in pushed.rows]
    assert sorted(path.name for path in out.glob("*.whl")) == names
    assert all((out / name).read_bytes() == (asked.wheels / name).read_bytes() for name in names)


def test_the_commands_say_who_is_not_believed(gap: Gap, asked: Asked, tmp_path: Path) -> None:
    gap.near.push_wheels("dmz/told", asked)
    gap.cross("told")
    arguments = ["--config", str(gap.far.config.path), "--json"]
    pull = ["wheels", "pull", "private/in/told", "--to", str(gap.folder / "out"), *arguments]
    done = CliRunner().invoke(main, pull)
    assert done.exit_code == 0 and answered(done.stdout)["facts"]["wheels"] == 2
    push = ["wheels", "push", "dmz/again", "--requirements", str(asked.requirements), "--wheels", str(asked.wheels)]
    near = ["--config", str(gap.near.config.path), "--json"]
    assert answered(CliRunner().invoke(main, [*push, *near]).stdout)["changed"] is True
    for words, code in ((["advisories", "pull", "private/in/told"], 8), (["advisories", "push", "private/x"], 8)):
        assert CliRunner().invoke(main, [*words, *arguments]).exit_code == code
    both = CliRunner().invoke(main, [*push, "--image", "local", "--libc", "musl-1.2", *arguments])
    assert both.exit_code == 8 and "the build of an image says itself" in both.output
    other = generate_key(tmp_path / "other.key")
    path = gap.far.config.path
    path.write_text(path.read_text().replace(str(gap.near.config.trusted_keys[0]), str(other.public)))
    refused = CliRunner().invoke(main, pull)
    assert refused.exit_code == 3 and answered(refused.stdout)["error"]["error"] == "EvidenceMissing"
