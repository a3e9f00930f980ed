"""Files for the other programs of a node, each read by that program itself."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from registry_pipelines.cli import main
from registry_pipelines.errors import InputError
from registry_pipelines.node.examining.runtime import read_warnings
from registry_pipelines.node.setup import FORMS, NAME, Setup, write
from registry_pipelines.node.setup.model import VERSION_2
from tests.doubles.containerd import Containerd, containerd
from tests.evidence.parts import Counted
from tests.needs import missing, needed_module
from tests.node.agent import Agent, pushed
from tests.node.pods import TWO
from tests.patience import patient

SCHEMA = json.loads(gzip.decompress((Path(__file__).parents[1] / "data" / "kubernetes-daemonset.json.gz").read_bytes()))
IMAGES = "io.containerd.cri.v1.images"
MINE = """\
version = {version}
root = "{folder}/root"
state = "{folder}/state"
imports = ["{folder}/conf.d/*.toml"]
[plugins."{cri}".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins."{cri}".containerd.runtimes.runc.options]
    BinaryName = "/opt/mine/runc"
"""
"""As somebody has it before."""


def setup(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["node", "setup", *arguments])


def dumped(program: str, folder: Path, written: Path, *, version: int, cri: str) -> dict[str, Any]:
    """The configuration that containerd makes of somebody's own and of the file that is written: settings that it does
    not know are not in it, but a section of a plugin that it was built without is as it was written."""
    (folder / "conf.d").mkdir()
    (folder / "conf.d" / written.name).write_bytes(written.read_bytes())
    config = folder / "config.toml"
    config.write_text(MINE.format(version=version, folder=folder, cri=cri))
    done = subprocess.run([program, "--config", str(config), "config", "dump"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tomllib.loads(done.stdout)


@pytest.mark.peer("containerd")
def test_containerd_1_takes_the_snapshotter_and_keeps_what_somebody_set(
    peer: Callable[[str], str], tmp_path: Path
) -> None:
    """A file with a part of the section of CRI would replace all of it, so that is for a person to take over."""
    assert setup("containerd", "--to", str(tmp_path / "to"), "--socket", "/run/a b.sock").exit_code == 0
    found = dumped(
        peer("containerd"),
        tmp_path,
        tmp_path / "to" / "containerd-1" / f"{NAME}.toml",
        version=2,
        cri="io.containerd.grpc.v1.cri",
    )
    assert found["proxy_plugins"][NAME]["address"] == "/run/a b.sock"
    runtimes = found["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["runtimes"]
    assert runtimes["runc"]["options"]["BinaryName"] == "/opt/mine/runc"


@pytest.mark.long
@pytest.mark.peer(TWO[0])
@pytest.mark.parametrize(
    ("version", "cri", "folder"),
    [(3, "io.containerd.cri.v1.runtime", "containerd-2"), (2, "io.containerd.grpc.v1.cri", VERSION_2)],
    ids=["3", "2"],
)
def test_containerd_2_takes_all_of_it_beside_what_somebody_set(
    peer: Callable[[str], str], tmp_path: Path, version: int, cri: str, folder: str
) -> None:
    assert setup("containerd", "--to", str(tmp_path / "to")).exit_code == 0
    written = tmp_path / "to" / folder / f"{NAME}.toml"
    found = dumped(peer(TWO[0]), tmp_path, written, version=version, cri=cri)
    assert found["proxy_plugins"][NAME]["exports"]["enable_remote_snapshot_annotations"] == "true"
    plugins = found["plugins"]
    images, runtimes = plugins[IMAGES], plugins["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]
    assert (images["snapshotter"], images["runtime_platforms"][NAME]["snapshotter"]) == ("overlayfs", NAME)
    assert images["disable_snapshot_annotations"] is images["discard_unpacked_layers"] is False
    assert runtimes[NAME]["snapshotter"] == NAME and runtimes[NAME]["runtime_type"] == "io.containerd.runc.v2"
    assert runtimes["runc"]["options"]["BinaryName"] == "/opt/mine/runc" and not runtimes["runc"]["snapshotter"]
    unpacked = plugins["io.containerd.transfer.v1.local"]["unpack_config"]
    assert sorted((each["platform"], each["snapshotter"]) for each in unpacked) == [
        (f"linux/{architecture}", snapshotter)
        for architecture in ("amd64", "arm64")
        for snapshotter in ("overlayfs", NAME)
    ]


@pytest.mark.long
@pytest.mark.peer(TWO[0])
@pytest.mark.parametrize(("folder", "lost"), [("containerd-2", True), (VERSION_2, False)])
def test_the_doctor_sees_a_file_that_makes_containerd_drop_settings(
    peer: Callable[[str], str], tmp_path: Path, folder: str, lost: bool
) -> None:
    assert setup("containerd", "--to", str(tmp_path / "to")).exit_code == 0
    written = tmp_path / "to" / folder / f"{NAME}.toml"
    dumped(peer(TWO[0]), tmp_path, written, version=2, cri="io.containerd.grpc.v1.cri")
    command = [peer(TWO[0]), "--config", str(tmp_path / "config.toml"), "config", "dump"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert [each.state for each in read_warnings(said, "config.toml")] == ["failed"] * lost


def test_docker_is_told_of_the_snapshotter_of_its_containerd(tmp_path: Path) -> None:
    assert setup("docker", "--to", str(tmp_path)).exit_code == 0
    content = json.loads((tmp_path / "daemon.json").read_bytes())
    assert content == {"features": {"containerd-snapshotter": True}, "storage-driver": NAME}
    for each in ("containerd-1", "containerd-2", VERSION_2):
        assert f"[proxy_plugins.{NAME}]" in (tmp_path / each / f"{NAME}.toml").read_text()


@pytest.mark.peer("systemd-analyze")
def test_systemd_takes_the_unit(peer: Callable[[str], str], tmp_path: Path) -> None:
    """Also with a path that has characters which its command lines give a meaning."""
    program = tmp_path / "a b 50% $HOME;" / NAME
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (content,) = write("systemd", Setup(program, root=tmp_path / "50% $HOME")).files.values()
    unit = tmp_path / f"{NAME}-node.service"
    unit.write_bytes(content)
    done = subprocess.run([peer("systemd-analyze"), "verify", "--man=no", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    unit.write_bytes(content.replace(b"Restart=always", b"Restart=sometimes"))
    done = subprocess.run([peer("systemd-analyze"), "verify", "--man=no", str(unit)], capture_output=True, text=True)
    assert "sometimes" in done.stderr


def test_the_unit_runs_the_program_that_wrote_it_with_its_configuration(tmp_path: Path) -> None:
    config = tmp_path / "registry-pipelines.yaml"
    config.write_text("version: 1\n")
    done = setup("systemd", "--to", str(tmp_path), "--root", "/data/node", "--config", str(config))
    assert done.exit_code == 0, done.output
    text = (tmp_path / f"{NAME}-node.service").read_text()
    (command,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    program, *rest = command.removeprefix("ExecStart=").split()
    assert Path(program).exists()
    assert rest[:3] == ["node", "serve", "--socket"]
    assert rest[4:] == ["--root", "/data/node", "--config", str(config)]


def check(content: dict[str, Any], kind: str) -> None:
    Draft202012Validator({"$ref": f"#/$defs/{kind}", **SCHEMA}).validate(content)


def test_kubernetes_takes_its_objects(tmp_path: Path) -> None:
    done = setup("kubernetes", "--to", str(tmp_path), "--image", "eu.example.com/tools/rp:v1", "--root", "/data/node")
    assert done.exit_code == 0, done.output
    daemon = yaml.safe_load((tmp_path / "daemonset.yaml").read_bytes())
    runtime = yaml.safe_load((tmp_path / "runtimeclass.yaml").read_bytes())
    check(daemon, "io.k8s.api.apps.v1.DaemonSet")
    check(runtime, "io.k8s.api.node.v1.RuntimeClass")
    assert runtime["handler"] == NAME
    spec = daemon["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    mounted = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    hosts = {each["name"]: each["hostPath"]["path"] for each in spec["volumes"] if "hostPath" in each}
    # containerd mounts what it is told, on the host: each folder has the same path there.
    assert {path for path, name in mounted.items() if name in hosts} == set(hosts.values())
    own = {"/run/registry-pipelines", "/data/node", "/var/lib/registry-pipelines"}
    assert set(hosts.values()) == {*own, "/etc/containerd/certs.d", "/sys/fs/cgroup"}
    assert spec["hostPID"]
    [certs] = [each for each in container["volumeMounts"] if each["mountPath"] == "/etc/containerd/certs.d"]
    assert certs["readOnly"]
    with pytest.raises(Exception, match="Additional properties"):
        check({**daemon, "spec": {**daemon["spec"], "replica": 1}}, "io.k8s.api.apps.v1.DaemonSet")


def test_one_folder_in_another_is_mounted_once(tmp_path: Path) -> None:
    assert setup("kubernetes", "--to", str(tmp_path), "--image", "eu.example.com/tools/rp:v1").exit_code == 0
    spec = yaml.safe_load((tmp_path / "daemonset.yaml").read_bytes())["spec"]["template"]["spec"]
    assert len(spec["volumes"]) == 5


@pytest.mark.parametrize("form", list(FORMS))
def test_no_form_takes_a_path_that_depends_on_where_one_is(form: str, tmp_path: Path) -> None:
    image = ["--image", "eu.example.com/rp:v1"] if form == "kubernetes" else []
    for wrong in (["--socket", "run/it.sock"], ["--root", "here"], ["--socket", "/run/a\nb"]):
        done = setup(form, "--to", str(tmp_path / "to"), *image, *wrong)
        assert done.exit_code == InputError.exit_code, done.output
        assert not (tmp_path / "to").exists()


def test_what_a_form_has_no_use_for_is_refused(tmp_path: Path) -> None:
    to = ["--to", str(tmp_path / "to")]
    for arguments in (
        ["kubernetes"],
        ["kubernetes", "--image", "UPPER//case"],
        ["systemd", "--image", "eu.example.com/rp:v1"],
        ["containerd", "--config", "some.yaml"],
        ["systemd", "--root", '/a/"b"'],
    ):
        done = setup(*arguments, *to)
        assert done.exit_code == InputError.exit_code, (arguments, done.output)
    assert not (tmp_path / "to").exists()


def test_what_is_to_be_done_is_in_the_document_too(tmp_path: Path) -> None:
    done = setup("containerd", "--to", str(tmp_path), "--json")
    result = json.loads(done.stdout)["result"]
    assert sorted(result["files"]) == sorted(str(path) for path in tmp_path.rglob("*.toml"))
    assert any("restart containerd" in note for note in result["notes"])


@pytest.mark.parametrize(("form", "keyed"), [("systemd", False), ("systemd", True), ("eks", False), ("docker", True)])
def test_who_names_no_key_is_told_that_nothing_will_be_lazy(form: str, keyed: bool, tmp_path: Path) -> None:
    (tmp_path / "k.pub").write_text("-----BEGIN PUBLIC KEY-----\n")
    key = ["--key", str(tmp_path / "k.pub")] if keyed and form != "docker" else []  # `docker` starts no agent
    done = setup(form, "--to", str(tmp_path / "to"), *key)
    assert done.exit_code == 0 and ("no key is named" in done.stderr) is not keyed, done.output
    assert ("no public index" in done.stderr) is (form == "eks")


@contextmanager
def configured(peer: Callable[[str], str], where: str, *files: str, cri: bool = False) -> Iterator[Held]:
    """containerd with what is written, beside an agent: how many snapshots each snapshotter has, and the client."""
    needed_module("grpc", "node")
    if os.geteuid() != 0:
        missing("containerd needs root")
    with tempfile.TemporaryDirectory(prefix="node-") as text:
        folder = Path(text)
        agent = Agent(folder)
        agent.start()
        try:
            assert setup("containerd", "--to", text, "--socket", f"{folder}/snap.sock").exit_code == 0
            version = "2" if "2" in where else "1"
            lines = [(folder / f"containerd-{version}" / name).read_text().splitlines() for name in files]
            plugins = "\n".join(line for each in lines for line in each if not line.startswith("version"))
            with containerd(peer(f"{where}containerd"), peer(f"{where}ctr"), folder, plugins=plugins, cri=cri) as ctr:
                yield Held(ctr, folder / "grpc.sock")
        finally:
            agent.end()


class Held(NamedTuple):
    ctr: Containerd
    socket: Path

    def counted(self, namespace: str = "default") -> list[int]:
        """Snapshots of containerd's own snapshotter, and of the agent."""
        lists = (
            self.ctr("--namespace", namespace, "snapshots", "--snapshotter", each, "ls") for each in ("overlayfs", NAME)
        )
        return [len(listed.splitlines()) - 1 for listed in lists]


@pytest.mark.long
@pytest.mark.peer("../containerd2/containerd", "../containerd2/ctr")
def test_containerd_2_pulls_by_the_agent_where_it_is_told_to_and_else_as_before(
    counted: Counted, peer: Callable[[str], str]
) -> None:
    pushed(counted.place)
    with configured(peer, "../containerd2/", f"{NAME}.toml") as held:
        held.ctr("images", "pull", "--plain-http", f"{counted.place}:v1")
        assert held.counted() == [3, 0]
        held.ctr("images", "pull", "--plain-http", "--snapshotter", NAME, f"{counted.place}:v1")
        assert held.counted() == [3, 3]


@pytest.mark.peer("containerd", "ctr")
def test_a_kubelet_of_containerd_1_pulls_by_the_agent(counted: Counted, peer: Callable[[str], str]) -> None:
    pushed(counted.place)
    with configured(peer, "", f"{NAME}.toml", "cri.toml", cri=True) as held:
        pulled_by_cri(held.socket, f"{counted.place}:v1")
        assert held.counted("k8s.io") == [0, 3]


def pulled_by_cri(socket: Path, name: str) -> None:
    """As a kubelet asks; raises grpc.RpcError. Fields: k8s.io/cri-api, runtime/v1/api.proto: PullImageRequest 1 image,
    ImageSpec 1 image."""
    import grpc

    def field(content: bytes) -> bytes:
        assert len(content) < 128
        return bytes([1 << 3 | 2, len(content)]) + content

    with grpc.insecure_channel(f"unix://{socket}") as channel:
        channel.unary_unary("/runtime.v1.ImageService/PullImage")(field(field(name.encode())), timeout=patient(60))
