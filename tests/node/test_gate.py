"""A node takes what the gate of releases lets start, and nothing else: over a real fleet, as the snapshotter asks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from registry_pipelines.chain.admission import ConfiguredSites
from registry_pipelines.chain.session import Session
from registry_pipelines.cli import main
from registry_pipelines.errors import LocalError, RegistryPipelinesError, Unavailable
from registry_pipelines.node.gate import NodeGate
from registry_pipelines.node.judging import Layer, Named, named_so, stands_on
from registry_pipelines.node.last_answers import LastAnswers
from registry_pipelines.node.lazy_images import IMAGE_LABEL, LAYER_LABEL, LAYERS_LABEL, MANIFEST_LABEL
from registry_pipelines.node.model import Gate
from registry_pipelines.node.snapshots import Snapshots
from registry_pipelines.node.store import Info, Refused
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.oci.references import Reference
from registry_pipelines.progress import Silent
from registry_pipelines.promote.admission.judging import Site
from registry_pipelines.promote.admission.model import Approved
from registry_pipelines.promote.admission.rulings import Ruling
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.settings import Duration
from registry_pipelines.stream.lazy.image import image_for
from registry_pipelines.threads import Pool
from tests.chain.entries import index
from tests.chain.fleet import Fleet, attach_provenance, push, start
from tests.needs import missing

LAYER = Layer("sha256:" + "1" * 64, "k8s.io", "rp")


@dataclass
class World:
    fleet: Fleet
    good: Release
    waiting: Release
    evil: Release

    def named(self, release: Release, where: str = "us", *, tag: str = "", digest: str = "") -> Named:
        chain = self.fleet.chain
        place = chain.place("app") if where == "us" else chain.target_place("app", where)
        return Named(f"{place}:{tag or release.tag}", digest or release.digest)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("gate")
    with ExitStack() as stack:
        fleet = start(folder, stack)
        good, waiting = fleet.release("v1.0.0"), fleet.release("v1.1.0", package="otherwheel")
        evil = fleet.release("v2.0.0", package="badwheel")
        assert [fleet.judged(each) for each in (good, waiting, evil)] == [True, True, False]
        fleet.chain.promote(good)
        assert fleet.chain.replicate(good, "eu").ok
        yield World(fleet, good, waiting, evil)


def place_of(reference: str) -> Place:
    name = Reference.parse(reference)
    return Place(DistributionRegistry(name.registry, plain_http=True), name.repository)


def topmost(image: Named | None) -> str:
    """The chain ID of its topmost layer, where it is an image that can be read."""
    with suppress(RegistryPipelinesError):
        if image is not None and image.reference.startswith("127."):
            return image_for(place_of(image.reference), image.digest).config.chain_ids[-1]
    return LAYER.chain_id


@dataclass
class Asked:
    gate: NodeGate
    said: list[str] = field(default_factory=list)

    def refusal(self, image: Named | None) -> str:
        """Empty where it may come and start."""
        chain_id = topmost(image)
        try:
            self.gate.pulled(image, chain_id)
            self.gate.started(image, LAYER._replace(chain_id=chain_id))
        except Refused as error:
            assert error.code == "PERMISSION_DENIED"
            return str(error)
        return ""


@pytest.fixture
def asked(world: World, tmp_path: Path) -> Iterator[Callable[..., Asked]]:
    with ExitStack() as stack:

        def open_gate(**settings: object) -> Asked:
            said: list[str] = []
            told = Gate(**{"containerd": tmp_path / "none.sock", **settings})  # type: ignore[arg-type]
            return Asked(stack.enter_context(world.fleet.chain.node_gate(told, tmp_path / "last", said.append)), said)

        yield open_gate


def test_an_image_comes_by_its_verdict_at_each_of_its_places(world: World, asked: Callable[..., Asked]) -> None:
    node = asked()
    for where in ("us", "eu"):
        assert node.refusal(world.named(world.good, where)) == ""
    node.gate.pulled(Named("us/team/app:v1.0.0", world.good.digest))  # as announced
    assert "[not-promoted]" in node.refusal(world.named(world.waiting))
    refused = node.refusal(world.named(world.evil))
    assert "[not-allowed]" in refused and "badwheel" in refused and world.evil.digest in refused
    assert len([line for line in node.said if world.evil.digest in line]) == 1


def test_a_denied_image_under_the_name_of_a_good_one_is_refused(world: World, asked: Callable[..., Asked]) -> None:
    """Labels that lie, or a tag that moved since."""
    node = asked()
    lies = world.named(world.good, digest=world.evil.digest)
    assert "[not-found]" in (said := node.refusal(lies)) and "pull it again" in said
    pinned = Named(f"{lies.reference}@{world.good.digest}", world.evil.digest)
    assert "[not-found]" in node.refusal(pinned)
    assert "[not-allowed]" in node.refusal(Named(f"{lies.reference}@{world.evil.digest}", world.evil.digest))
    for wrong in ("", "sha256:1", "../../etc"):
        assert "[no-reference]" in node.refusal(Named(lies.reference, wrong))
    assert "[no-reference]" in node.refusal(Named("a b", world.good.digest))


def test_the_name_of_a_good_image_on_the_layers_of_another_one_lets_nothing_in(
    world: World, asked: Callable[..., Asked]
) -> None:
    """Layers have labels by annotations in their own image's manifest, where a runtime does not write its own."""
    place = Place(world.fleet.chain.place("app").registry, "others/tool")
    approved = (Approved(images=str(place), reason="ours"),)
    tool = Named(f"{place}:v1", push(place, "v1", provenance=False).digest)
    good, evil = world.named(world.good), topmost(world.named(world.evil))
    for lying in (good, tool):
        for unknown in ("refuse", "pull"):
            gate = asked(approved=approved, unknown=unknown).gate
            with pytest.raises(Refused, match=r"\[no-reference\].*has no layer"):
                gate.pulled(lying, evil)
        with pytest.raises(Refused, match=r"\[no-reference\].*none of that image"):
            asked(approved=approved).gate.started(lying, LAYER._replace(chain_id=evil))
        assert asked(approved=approved).refusal(lying) == ""
    away = Named("127.0.0.1:9/others/tool:v1", tool.digest)
    gate = asked(approved=(Approved(images="127.0.0.1:9/others", reason="ours"),), keep=Duration(seconds=5)).gate
    gate.pulled(away, "sha256:" + "3" * 64)
    with pytest.raises(Refused, match=r"\[unreachable\]"):
        gate.started(away, LAYER)
    gate.started(away, LAYER._replace(chain_id=topmost(tool)))  # known by its digest from before


def test_others_are_refused_or_pulled_and_some_are_approved(world: World, asked: Callable[..., Asked]) -> None:
    place = Place(world.fleet.chain.place("app").registry, "others/pause")
    pause = Named(f"{place}:v1", push(place, "v1", provenance=False).digest)
    other = Named("registry.k8s.io/pauses/other:3.9", "sha256:" + "2" * 64)
    approved = (Approved(images=str(place), reason="each pod's own"),)
    node = asked(approved=approved)
    assert node.refusal(pause) == "" and "[not-approved]" in node.refusal(other)
    assert "does not say of which image" in node.refusal(None)
    lax = asked(unknown="pull")
    assert lax.refusal(other) == lax.refusal(None) == ""
    assert "[not-allowed]" in lax.refusal(world.named(world.evil))


def test_audit_says_what_would_be_refused(world: World, asked: Callable[..., Asked]) -> None:
    node = asked(mode="audit")
    assert node.refusal(world.named(world.evil)) == "" and node.refusal(None) == ""
    assert any("badwheel" in line and "audit" in line for line in node.said)


def test_a_policy_whose_verdict_nobody_made_lets_nothing_in(world: World, tmp_path: Path) -> None:
    text = world.fleet.path.read_text() + "policies: {strict: {}}\n"
    path = world.fleet.path.with_name("strict.yaml")
    path.write_text(text)
    from registry_pipelines.chain import Chain
    from registry_pipelines.config import load

    settings = Gate(policy="strict", containerd=tmp_path / "none.sock")
    with Chain(load(path, {})).node_gate(settings, tmp_path / "last", print) as gate:
        assert "[not-allowed]" in Asked(gate).refusal(world.named(world.good))


def test_a_manifest_of_a_platform_counts_as_the_release_that_has_it(world: World, tmp_path: Path) -> None:
    """containerd names the manifest; the verdict is about the index. A tag that moved leads there no more, and what was
    found before still does."""
    fleet, place = world.fleet, world.fleet.chain.place("tool")
    inner = push(place, "inner", provenance=False)
    platform = Platform(os="linux", architecture="amd64")
    top = index(place, replace(inner, platform=platform), tag="v5.0.0")
    attach_provenance(place, top)
    release = Release("tool", "v5.0.0", top.digest)
    assert fleet.judged(release)
    fleet.chain.promote(release)
    stable, unasked = (Named(f"{place}:stable", each.digest) for each in (inner, push(place, "x", package="x")))

    def refusal(image: Named, last: str = "last") -> str:
        with fleet.chain.node_gate(Gate(containerd=tmp_path / "none"), tmp_path / last, print) as gate:
            return Asked(gate).refusal(image)

    assert refusal(stable) == refusal(Named(f"{place}@{top.digest}", inner.digest)) == ""
    assert "[not-allowed]" in refusal(Named(f"{place}@{inner.digest}", inner.digest))
    assert "[not-found]" in refusal(unasked)
    moved = place.registry.get_manifest(place.repository, unasked.digest)
    place.registry.put_manifest(place.repository, moved, tag="stable")
    assert refusal(stable) == "" and "[not-found]" in refusal(stable, "another node")


class Doors:
    """Registries that a gate asks, which can be shut."""

    def __init__(self, sites: ConfiguredSites) -> None:
        self._sites, self.shut, self.asked = sites, False, 0

    def find(self, reference: Reference) -> Site | None:
        return self._sites.find(reference)

    def ruling(self, image: str, digest: Digest) -> Ruling:
        self.asked += 1
        if self.shut:
            raise Unavailable("the registry cannot be reached", where=image)
        return self._sites.ruling(image, digest)


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def shut(world: World, tmp_path: Path) -> Iterator[Callable[..., tuple[Asked, Doors, Clock]]]:
    """A gate with its own time, whose source registry can be shut."""
    with ExitStack() as stack:

        def open_gate(**more: str) -> tuple[Asked, Doors, Clock]:
            pool, clock, said = Pool(4, "test-gate"), Clock(), list[str]()
            stack.callback(pool.stop)
            doors = Doors(ConfiguredSites(Session(world.fleet.config, Silent())))
            settings = Gate(keep=Duration(seconds=30), max_age=Duration(hours=1))
            gate = NodeGate(
                settings,
                doors,
                pool,
                place=place_of,
                folder=tmp_path / "doors",
                log=said.append,
                now=clock,
                clock=clock,
                **more,
            )
            return Asked(gate, said), doors, clock

        yield open_gate


def test_the_last_answer_counts_while_the_registry_is_away_for_so_long(
    world: World, shut: Callable[..., tuple[Asked, Doors, Clock]]
) -> None:
    node, doors, clock = shut()
    good, evil = (
        Named(world.named(each).reference + f"@{each.digest}", each.digest) for each in (world.good, world.evil)
    )
    assert node.refusal(good) == "" and node.refusal(good) == "" and doors.asked == 1
    assert "[not-allowed]" in node.refusal(evil)
    doors.shut = True
    clock.now += 20
    assert node.refusal(good) == "" and doors.asked == 2  # kept, not asked
    clock.now += 20
    assert node.refusal(good) == "" and doors.asked == 3
    assert "cannot be asked" in node.said[-1]
    assert "[unreachable]" in node.refusal(evil)
    again, other_doors, later = shut()  # the agent began anew
    other_doors.shut, later.now = True, clock.now + 1800
    assert again.refusal(good) == ""
    later.now += 1800
    assert "[unreachable]" in (said := again.refusal(good)) and "no allowing answer of the last 1h" in said
    back, shut_doors, set_back = shut()
    shut_doors.shut, set_back.now = True, clock.now - 86400
    assert "[unreachable]" in back.refusal(good)  # its age is not known
    elsewhere, closed, _ = shut(scope="another policy")
    closed.shut = True
    assert "[unreachable]" in elsewhere.refusal(good)


def test_what_is_revoked_is_refused_when_the_answer_is_over_and_stays_so(
    world: World, shut: Callable[..., tuple[Asked, Doors, Clock]]
) -> None:
    fleet = world.fleet
    release = fleet.release("v3.0.0")
    assert fleet.judged(release)
    fleet.chain.promote(release)
    image = Named(f"{fleet.chain.place('app')}@{release.digest}", release.digest)
    node, doors, clock = shut()
    assert node.refusal(image) == ""
    fleet.chain.revoke(release, reason="leaks")
    assert node.refusal(image) == ""
    clock.now += 31
    assert "[revoked]" in node.refusal(image)
    doors.shut = True
    clock.now += 31
    assert "[unreachable]" in node.refusal(image)


def test_answers_are_kept_by_this_user_alone(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(LocalError):
        LastAnswers(tmp_path / "open")
    last = LastAnswers(tmp_path / "own")
    last.put("one", True, 1000.0)
    assert last.allowed("one", now=1010.0, max_age_s=20) == 10.0
    [path] = (tmp_path / "own").iterdir()
    for torn in (b"", b"{", path.read_bytes().replace(b"one", b"two"), b"null"):
        path.write_bytes(torn)
        assert last.allowed("one", now=1010.0, max_age_s=20) is None


def test_a_refusal_that_the_disk_does_not_take_counts_all_the_same(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        missing("only root mounts a folder read-only")
    last = LastAnswers(tmp_path / "own")
    last.put("one", True, 1000.0)
    subprocess.run(["mount", "--bind", tmp_path / "own", tmp_path / "own"], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", tmp_path / "own"], check=True)
    try:
        last.put("one", False, 1001.0)
        last.put_release("two", Digest.of(b"two"))
        assert last.allowed("one", now=1010.0, max_age_s=20) is None and last.release("two") is None
    finally:
        subprocess.run(["umount", tmp_path / "own"], check=True)
    last.put("one", True, 1002.0)
    assert last.allowed("one", now=1010.0, max_age_s=20) == 8.0


def test_a_container_is_of_the_image_whose_topmost_layer_it_stands_on() -> None:
    top, below = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    labels = {IMAGE_LABEL: "r.example/app:v1", MANIFEST_LABEL: top, LAYER_LABEL: top, LAYERS_LABEL: top}

    def parent(image: str = "", **more: str) -> Info:
        return Info(1, "n/1/x", "", "committed", 0, 0, {**labels, **more}, image=image)

    assert stands_on(parent()) == Named("r.example/app:v1", top)
    assert stands_on(parent(**{LAYERS_LABEL: f"{below},{top}", LAYER_LABEL: below})) is None
    nothing = Info(1, "n/1/x", "", "committed", 0, 0, {}, image=f"r.example:5/app@{top}")
    assert stands_on(nothing) == Named("r.example:5/app", top) and named_so("") is None


def test_a_container_of_docker_s_is_of_the_image_below_what_docker_puts_between(tmp_path: Path) -> None:
    asked: list[str] = []

    class Told:
        def pulled(self, image: Named | None, chain_id: str = "") -> None:
            pass

        def started(self, image: Named | None, layer: Layer) -> None:
            asked.append(layer.chain_id)

    top, container = "sha256:" + "a" * 64, "0123456789abcdef" * 4
    with Snapshots(tmp_path, gate=Told()) as node:
        node.prepare("moby/1/extract-1", "", {})
        node.commit(f"moby/2/{top}", "moby/1/extract-1", {})
        node.prepare(f"moby/3/{container}-init-key", f"moby/2/{top}", {})
        node.commit(f"moby/4/{container}-init", f"moby/3/{container}-init-key", {})
        node.prepare(f"moby/5/{container}", f"moby/4/{container}-init", {})
        node.view("moby/6/compared", f"moby/4/{container}-init", {})
        assert asked == [top] * 3
        node.commit("moby/7/built", f"moby/5/{container}", {})
        node.prepare("moby/8/run", "moby/7/built", {})
        assert asked[3:] == [""]


def test_of_images_with_the_same_layers_a_verdict_is_enough_and_another_name_is_not(
    world: World, asked: Callable[..., Asked]
) -> None:
    good, evil = (
        Named(f"{world.named(each).reference}@{each.digest}", each.digest) for each in (world.good, world.evil)
    )
    other = Named(f"docker.io/library/other@{world.evil.digest}", world.evil.digest)

    class Told:
        def __init__(self, *images: Named) -> None:
            self._images = images

        def images(self, layer: Layer) -> tuple[Named, ...]:
            assert layer == LAYER
            return self._images

    for unknown in ("pull", "refuse"):
        node = asked(unknown=unknown)
        for images, may in (((evil, good), True), ((evil, other), False), ((other,), unknown == "pull")):
            node.gate._runtime = Told(*images)
            if may:
                node.gate.started(None, LAYER)
                continue
            with pytest.raises(Refused) as caught:
                node.gate.started(good, LAYER)  # what the labels of its layer say counts where nobody can be asked
            assert images[0].digest in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words", "said"),
    [
        (None, ["--policy", "x"], "there is no configuration"),
        ("", ["--policy", "defalt"], "did you mean `default`?"),
        ("node: {gate: enforce}", [], "cannot be read"),
        ("node: {gate: enforced}", [], "did you mean `enforce`?"),
        ("node: {gate: {policy: strict}}", [], "strict"),
        ("node: {gate: {channel: prd}}", [], "prd"),
    ],
)
def test_an_agent_whose_gate_cannot_be_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str | None, words: list[str], said: str
) -> None:
    """The third: keys that are believed are not there."""
    monkeypatch.chdir(tmp_path)
    if settings is not None:
        image = "images: {app: {registry: us, repository: team/app}}"
        registry = "registries: {us: {kind: distribution, host: 127.0.0.1:9}}"
        Path("registry-pipelines.yaml").write_text(f"{registry}\n{image}\n{settings}\n")
    command = ["node", "serve", "--no-lazy", "--socket", str(tmp_path / "s"), "--root", str(tmp_path / "r"), *words]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 8 and said in done.output
