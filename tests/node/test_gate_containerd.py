"""containerd, as it is, pulls and starts what the gate of its node lets in, and shows people why not."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from registry_pipelines.node.judging import Layer, Named
from registry_pipelines.node.lazy_images import IMAGE_LABEL, MANIFEST_LABEL
from registry_pipelines.node.runtime_images import Containerd as Runtime
from registry_pipelines.node.snapshots import GIDS_LABEL, UIDS_LABEL
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet, attach_provenance, start
from tests.doubles.containerd import Containerd, containerd
from tests.doubles.docker_daemon import Docker
from tests.evidence.parts import Counted
from tests.needs import needed_module
from tests.node.agent import NAME, PLUGINS, Agent, node, pushed
from tests.node.dockers import above
from tests.node.pods import SYSTEM, TWO, kubelet, push_pause
from tests.node.test_containerd import fresh, in_the_end
from tests.node.test_images import chain
from tests.stream.pull.test_runtimes import VERSIONS
from tests.stream.releases import layer, push, push_index

pytestmark = pytest.mark.peer("containerd", "ctr")


HIDDEN = """
import sys
from pathlib import Path
from registry_pipelines.node.judging import Layer
from registry_pipelines.node.runtime_images import Containerd
socket, host, *layer = sys.argv[1:]
assert not Path(socket).exists()
for each in Containerd(Path(socket), host=Path(host)).images(Layer(*layer)):
    print(*each)
"""


@contextmanager
def gated(
    fleet: Fleet, peer: Callable[[str], str], programs: tuple[str, str], settings: str
) -> Iterator[tuple[Containerd, Agent]]:
    found = [peer(each) for each in programs]
    with tempfile.TemporaryDirectory(prefix="node-") as name, ExitStack() as stack:
        folder = Path(name)
        config = fleet.path.with_name("node.yaml")
        gate = f"node:\n  gate: {{containerd: {folder}/grpc.sock, {settings}}}\n"
        config.write_text(fleet.path.read_text() + gate)
        agent = Agent(folder, "--no-lazy", "--config", str(config))
        agent.start()
        stack.callback(agent.close)
        yield stack.enter_context(containerd(found[0], found[1], folder, plugins=PLUGINS.format(folder))), agent


def pull(ctr: Containerd, name: str) -> str:
    """What it says where it does not; empty where it does."""
    return _said(ctr, "images", "pull", "--plain-http", "--snapshotter", NAME, name)


def create(ctr: Containerd, name: str) -> str:
    """A container that is not started: its snapshot is made."""
    return _said(ctr, "containers", "create", "--snapshotter", NAME, name, fresh(), "/bin/true")


def _said(ctr: Containerd, *words: str) -> str:
    done = subprocess.run([*ctr._command, *words], capture_output=True, text=True)
    assert done.returncode == 0 or done.stderr
    return done.stderr if done.returncode else ""


@VERSIONS
def test_what_may_not_start_does_not_and_containerd_shows_why(
    peer: Callable[[str], str], programs: tuple[str, str], tmp_path: Path
) -> None:
    needed_module("grpc", "node")
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        good, evil = fleet.release("v1.0.0"), fleet.release("v2.0.0", package="badwheel")
        assert fleet.judged(good) and not fleet.judged(evil)
        fleet.chain.promote(good)
        place = fleet.chain.place("app")

        def name(release: Release) -> str:
            return f"{place}@{release.digest}"

        with gated(fleet, peer, programs, "unknown: pull, keep: 1s") as (ctr, agent):
            assert pull(ctr, name(good)) == "" and create(ctr, name(good)) == ""
            refused = pull(ctr, name(evil))
            assert bool(refused) == ("containerd2" in programs[0])  # 1.6 does not say what it pulls
            refused = refused or create(ctr, name(evil))
            assert "[not-allowed]" in refused and "badwheel" in refused
            assert "refused" in agent.said() and "badwheel" in agent.said()
            fleet.chain.revoke(good, reason="leaks keys")
            in_the_end(lambda: "[revoked]" in create(ctr, name(good)))
            assert "leaks keys" in create(ctr, name(good))


@pytest.mark.long
@VERSIONS
def test_a_layer_whose_image_says_that_it_is_another_one_is_not_started(
    peer: Callable[[str], str], programs: tuple[str, str], tmp_path: Path
) -> None:
    """Neither under another name nor with other owners, of which it speaks in annotations that containerd takes over;
    and what a client unpacks without a word is no start."""
    needed_module("grpc", "node")
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        registry = fleet.chain.place("app").registry
        ours, theirs = (Place(registry, f"{name}/two") for name in ("others", "mallory"))
        good = push(ours, layer("one"), layer("two"), tag="v1")
        lies = {
            IMAGE_LABEL: f"{ours}:v1",
            MANIFEST_LABEL: good.digest,
            UIDS_LABEL: "0:1000:65536",
            GIDS_LABEL: "0:1000:65536",
        }
        one, three = (replace(layer(name), more={"annotations": lies}) for name in ("one", "three"))
        push(theirs, one, three, tag="v1")
        with gated(fleet, peer, programs, f"approved: [{{images: {ours}, reason: ours}}]") as (ctr, agent):
            refused = pull(ctr, f"{theirs}:v1")
            assert bool(refused) == ("containerd2" in programs[0])
            refused = refused or create(ctr, f"{theirs}:v1")
            assert "[not-approved]" in refused and "mallory" in refused
            assert pull(ctr, f"{ours}:v1") == "" and create(ctr, f"{ours}:v1") == ""
            owners = {each.stat().st_uid for each in (agent.root / "snapshots").glob("*/fs/**/*")}
            assert owners == {0}


@pytest.mark.long
@VERSIONS
def test_the_images_of_a_layer_are_those_whose_names_lead_to_it(
    counted: Counted, peer: Callable[[str], str], programs: tuple[str, str]
) -> None:
    """Also by way of an index, whose digest is what the name stands for."""
    needed_module("grpc", "node")
    one = push(counted.place, layer("one"), tag="one")
    both = push_index(counted.place, {"amd64": one}, tag="both")
    push(counted.place, layer("one"), layer("two"), tag="above")
    [name] = chain(counted.place, one)
    with node(peer, programs, "--no-lazy") as (ctr, agent):
        runtime, layer_of = Runtime(agent.folder / "grpc.sock"), Layer(name, "default", NAME)
        assert runtime.images(layer_of) == []
        for tag in ("one", "both", "above"):
            assert pull(ctr, f"{counted.place}:{tag}") == ""
        found = [
            Named(f"{counted.place}:{tag}@{each.digest}", each.digest) for tag, each in (("both", both), ("one", one))
        ]
        assert runtime.images(layer_of) == found
        # In a pod the socket is not there, and a process of the host has it.
        hidden = ["unshare", "--mount", "sh", "-ec", f'mount -t tmpfs none {agent.folder}; exec "$@"', "sh"]
        asking = [sys.executable, "-c", HIDDEN, str(agent.folder / "grpc.sock"), f"/proc/{os.getpid()}/root", *layer_of]
        done = subprocess.run([*hidden, *asking], capture_output=True, text=True)
        assert done.stdout.split() == [word for each in found for word in each], done.stderr
        for nothing in (layer_of._replace(namespace="other"), layer_of._replace(snapshotter="overlayfs")):
            assert runtime.images(nothing) == []
    assert runtime.images(layer_of) is None


@pytest.mark.long
@pytest.mark.parametrize("annotations", [True, False])
@pytest.mark.parametrize("programs", [SYSTEM, TWO])
def test_pods_are_refused_with_their_pull_or_with_their_container(
    peer: Callable[[str], str], programs: tuple[str, str], tmp_path: Path, annotations: bool
) -> None:
    """With everything of others refused, and the pause image approved. Where the runtime does not say what it pulls,
    the container is refused."""
    needed_module("grpc", "node")
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="node-") as short:
        fleet = start(tmp_path, stack)
        place = fleet.chain.place("app")
        pause = push_pause(Place(place.registry, "others/pause"))
        made = pushed(place, "v1.0.0")
        attach_provenance(place, made)
        good, evil = Release("app", "v1.0.0", made.digest), fleet.release("v2.0.0", package="badwheel")
        assert fleet.judged(good) and not fleet.judged(evil)
        fleet.chain.promote(good)
        other = f"{Place(place.registry, 'team/unheard')}:v1"
        push(Place(place.registry, "team/unheard"), layer("unheard"), tag="v1")
        config, socket = fleet.path.with_name("node.yaml"), Path(short) / "containerd.sock"
        approved = f"[{{images: {place.registry.name}/others, reason: pause}}]"
        config.write_text(f"{fleet.path.read_text()}node: {{gate: {{containerd: {socket}, approved: {approved}}}}}\n")
        options = ("--no-lazy", "--config", str(config))
        node = stack.enter_context(kubelet(peer, programs, pause, *options, annotations=annotations))
        socket.symlink_to(node.agent.folder / "grpc.sock")
        cri = node.cri
        cri.pull(f"{place}:v1.0.0")
        with cri.pod() as pod:
            running = pod.start(f"{place}:v1.0.0", "sleep 1000")
            for name, code, word in (
                (f"{place}:v2.0.0", "not-allowed", "badwheel"),
                (other, "not-approved", "unheard"),
            ):
                with pytest.raises(cri.errors) as caught:
                    cri.pull(name)
                    assert not annotations
                    pod.start(name, "exit 0")
                assert f"[{code}]" in str(caught.value) and word in str(caught.value)
            assert cri.exec(running, "/bin/cat", "/old") == "new\n"
            fleet.chain.revoke(good, reason="leaks keys")
            assert cri.exec(running, "/bin/cat", "/old") == "new\n"


@pytest.mark.long
@pytest.mark.peer("dockerd")
def test_docker_starts_what_the_gate_lets_in_and_shows_why_it_does_not(
    peer: Callable[[str], str], tmp_path: Path
) -> None:
    """With everything of others refused. A container of Docker's stands on a layer of its own above the image's."""
    needed_module("grpc", "node")
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        place = fleet.chain.place("app")
        made = pushed(place, "v1.0.0")
        attach_provenance(place, made)
        good, evil = Release("app", "v1.0.0", made.digest), fleet.release("v2.0.0", package="badwheel")
        assert fleet.judged(good) and not fleet.judged(evil)
        fleet.chain.promote(good)
        other = Place(place.registry, "team/unheard")
        push(other, layer("unheard"), tag="v1")
        _, agent = stack.enter_context(gated(fleet, peer, TWO, "keep: 1s"))
        docker = stack.enter_context(above(agent, peer))

        def refused(*words: str) -> str:
            with pytest.raises(AssertionError) as caught:
                docker(*words)
            return str(caught.value)

        network = ("--network", "host")
        docker("pull", f"{place}:v1.0.0")
        docker("run", "--detach", "--name", "long", *network, f"{place}:v1.0.0", "sleep", "1000")
        assert docker("exec", "long", "cat", "/old") == "new\n"
        assert "badwheel" in (said := refused("pull", f"{place}:v2.0.0")) and "[not-allowed]" in said
        assert "[not-approved]" in refused("pull", f"{other}:v1")
        docker("exec", "long", "sh", "-c", "echo mine > /mine")
        docker("commit", "long", "mine:1")  # nobody's release
        assert "refused by this node's gate" in refused("run", "--rm", *network, "mine:1", "cat", "/old")
        (tmp_path / "Dockerfile").write_text(f'FROM {place}:v1.0.0\nRUN ["/bin/sh", "-c", "echo built > /built"]\n')
        assert "refused by this node's gate" in refused("build", "--network", "host", str(tmp_path))
        fleet.chain.revoke(good, reason="leaks keys")
        in_the_end(lambda: "leaks keys" in _outcome(docker, "run", "--rm", *network, f"{place}:v1.0.0", "cat", "/old"))
        assert docker("exec", "long", "cat", "/old") == "new\n"
        docker("rm", "--force", "long")


def _outcome(docker: Docker, *words: str) -> str:
    try:
        return docker(*words)
    except AssertionError as error:
        return str(error)
