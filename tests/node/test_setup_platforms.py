"""Files for platforms that are not here: each against what describes it, which is said with the schema's origin."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from registry_pipelines.errors import InputError, RegistryPipelinesError
from registry_pipelines.node.setup import CARRIES, FORMS, NAME, SIZED, Form, Setup, write
from registry_pipelines.node.setup.model import VERSION_2
from registry_pipelines.node.sizing import GIB, NodeDisk, disk
from tests.needs import missing, needed_module
from tests.node.pods import TWO
from tests.node.test_setup import IMAGES, dumped, setup

SCHEMAS = json.loads(gzip.decompress((Path(__file__).parents[1] / "data" / "node-platforms.json.gz").read_bytes()))
PUBLIC = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"
CONFIG = "version: 1\nregistries:\n  own: {kind: distribution, host: registry.example.com}\n"
SIZE = disk([], way="filled", writable=60 * GIB)


def check(kind: str, content: Any) -> None:
    Draft202012Validator({"$ref": f"#/$defs/{kind}", **SCHEMAS}).validate(content)


def written(form: Form, *, size: NodeDisk | None = SIZE, **more: Any) -> dict[str, bytes]:
    return write(form, Setup(Path("/opt/rp/bin/registry-pipelines"), disk=size, **more)).files


def test_kubelet_knows_each_field_of_its_files() -> None:
    files = written("kubelet")
    settings = yaml.safe_load(files["90-registry-pipelines.conf"])
    check("KubeletConfiguration", settings)
    check("CredentialProviderConfig", yaml.safe_load(files["credential-provider.yaml"]))
    # Settings that kubelet refuses together.
    assert settings["imageGCLowThresholdPercent"] < settings["imageGCHighThresholdPercent"]
    assert settings["serializeImagePulls"] is False
    assert settings["maxParallelImagePulls"] > 1
    with pytest.raises(Exception, match="Additional properties"):
        check("KubeletConfiguration", {**settings, "imageMaximumPullAge": "1h"})


def test_kubelet_clears_images_before_it_ends_pods() -> None:
    settings = yaml.safe_load(written("kubelet")["90-registry-pipelines.conf"])
    evicted = int(settings["evictionHard"]["imagefs.available"].removesuffix("%"))
    assert 100 - settings["imageGCHighThresholdPercent"] > evicted


def parts(text: str) -> dict[str, str]:
    """User data as cloud-init takes it apart."""
    message = message_from_string(text)
    assert message.is_multipart()
    return {each.get_content_type(): str(each.get_payload()) for each in message.get_payload()}  # type: ignore[union-attr]


def unpacked(script: str, folder: Path) -> dict[str, str]:
    """The files that a script writes, by the name that they get."""
    found = re.findall(r"^base64 -d >(\S+) <<'END'\n(.*?)\nEND$", script, re.S | re.M)
    assert subprocess.run(["bash", "-n"], input=script, text=True, cwd=folder).returncode == 0
    return {path: base64.b64decode(content).decode() for path, content in found}


def test_a_node_of_eks_sets_itself_up(tmp_path: Path) -> None:
    own = tmp_path / "registry-pipelines.yaml"
    own.write_text(f"{CONFIG}state: /var/lib/registry-pipelines\n")
    key = tmp_path / "indexer.pem"
    key.write_text(PUBLIC)
    done = setup("eks", "--to", str(tmp_path), "--config", str(own), "--key", str(key))
    assert done.exit_code == 0, done.output
    found = parts((tmp_path / "user-data.txt").read_text())
    config = yaml.safe_load(found["application/node.eks.aws"])
    check("NodeConfig", config)
    plugin = tomllib.loads(config["spec"]["containerd"]["config"])
    assert plugin["proxy_plugins"][NAME]["exports"]["root"] == "/var/lib/registry-pipelines/node"
    files = unpacked(found["text/x-shellscript"], tmp_path)
    assert files["/etc/registry-pipelines/indexer.pem"] == PUBLIC
    assert files["/etc/registry-pipelines/registry-pipelines.yaml"] == own.read_text()
    (command,) = re.findall("^ExecStart=(.*)$", files[f"/etc/systemd/system/{NAME}-node.service"], re.M)
    assert command.startswith("/opt/registry-pipelines/bin/registry-pipelines node serve ")
    assert (
        "--config /etc/registry-pipelines/registry-pipelines.yaml --key /etc/registry-pipelines/indexer.pem" in command
    )


def test_a_disk_of_its_own_takes_over_what_is_there_and_comes_back(tmp_path: Path) -> None:
    """The script, on a disk that is a file, with ``mkfs.ext4`` where the machine has no other; twice mounted by what it
    wrote for the next boot."""
    found = shutil.which("losetup")
    if os.geteuid() != 0 or found is None or subprocess.run([found, "-f"], capture_output=True).returncode:
        missing("only root makes a disk of a file, with a loop device")
    script = parts(written("eks")["user-data.txt"].decode())["text/x-shellscript"]
    (tmp_path / "disk").touch()
    os.truncate(tmp_path / "disk", 64 << 20)
    (tmp_path / "var/lib/containerd").mkdir(parents=True)
    (tmp_path / "var/lib/containerd/pause").write_text("of the machine's image\n")
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("dnf", "python3.11", "systemctl", "mkfs.xfs", "pip"):
        does = 'exec mkfs.ext4 "$@"' if name == "mkfs.xfs" else "exit 0"
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    for old, new in (("/var/lib/", f"{tmp_path}/var/lib/"), ("/etc/", f"{tmp_path}/etc/"), ("/opt/", f"{tmp_path}/")):
        script = script.replace(old, new)
    script = script.replace(f"{tmp_path}/registry-pipelines/bin/pip", "pip")
    lines = [
        "set -e",
        f"device=$(losetup -f --show {tmp_path}/disk)",
        "trap 'umount -R -q \"$0\"/var/lib/images; losetup -d $device' EXIT",
        f"touch {tmp_path}/etc/fstab; mount --bind {tmp_path}/etc/fstab /etc/fstab",
        f'PATH={programs}:$PATH bash -s <<"SCRIPT"',
        script.replace("/dev/xvdb", "$device"),
        "SCRIPT",
        f"cat {tmp_path}/var/lib/containerd/pause; echo new >{tmp_path}/var/lib/containerd/new",
        f"umount {tmp_path}/var/lib/containerd {tmp_path}/var/lib/registry-pipelines {tmp_path}/var/lib/images",
        f"test ! -e {tmp_path}/var/lib/containerd/new",
        f"mount {tmp_path}/var/lib/images; mount {tmp_path}/var/lib/containerd",
        f"cat {tmp_path}/var/lib/containerd/new; umount {tmp_path}/var/lib/containerd",
    ]
    text = "\n".join(lines).replace("bash -s", "device=$device bash -s")
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "bash", "-c", text, str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "of the machine's image\nnew\n"), done.stderr


def test_karpenter_takes_the_class_with_the_size_of_the_disk() -> None:
    content = yaml.safe_load(written("karpenter")["ec2nodeclass.yaml"])
    check("EC2NodeClass", content)
    root, images = content["spec"]["blockDeviceMappings"]
    assert (root["deviceName"], images["deviceName"]) == ("/dev/xvda", "/dev/xvdb")
    assert images["ebs"]["volumeSize"] == f"{SIZE.volume_gib}Gi"
    assert content["spec"]["kubelet"]["imageGCLowThresholdPercent"] == SIZE.gc_low_percent
    # Karpenter merges its own part; kubelet's settings stand where it reads them.
    (config,) = [each for kind, each in parts(content["spec"]["userData"]).items() if "eks" in kind]
    assert "kubelet" not in yaml.safe_load(config)["spec"]
    with pytest.raises(Exception, match="Additional properties"):
        check("EC2NodeClass", {**content, "spec": {**content["spec"], "userdata": ""}})


@pytest.mark.parametrize("form", ["eks", "karpenter"])
def test_user_data_has_room_for_a_configuration(form: Form) -> None:
    content = yaml.safe_load(next(iter(written("karpenter").values())))["spec"]["userData"]
    text = content if form == "karpenter" else written("eks")["user-data.txt"]
    assert len(text) < 12_000  # of 16,384


def test_bottlerocket_has_each_of_its_settings() -> None:
    """Names: its page of settings, version 1.53."""
    settings = tomllib.loads(written("bottlerocket")["settings.toml"].decode())["settings"]
    assert settings["container-runtime"] == {"snapshotter": "soci"}
    soci = settings["container-runtime-plugins"]["soci-snapshotter"]
    assert set(soci) == {"pull-mode", "parallel-pull-unpack"}
    assert set(soci["parallel-pull-unpack"]) <= {
        "concurrent-download-chunk-size",
        "discard-unpacked-layers",
        "max-concurrent-downloads",
        "max-concurrent-downloads-per-image",
        "max-concurrent-unpacks",
        "max-concurrent-unpacks-per-image",
    }
    assert settings["kubernetes"]["image-gc-high-threshold-percent"] == "85"


def test_ecs_takes_the_task() -> None:
    """By the service's own model, as its SDK has it."""
    needed_module("botocore", "aws")
    from botocore.session import get_session
    from botocore.validate import ParamValidator

    content = json.loads(written("fargate")["task.json"])
    shape = get_session().get_service_model("ecs").operation_model("RegisterTaskDefinition").input_shape
    assert not ParamValidator().validate(content, shape).has_errors()
    assert content["ephemeralStorage"] == {"sizeInGiB": SIZE.volume_gib}
    assert ParamValidator().validate({**content, "ephemeral": 1}, shape).has_errors()
    huge = disk([], way="filled", writable=900 * GIB)
    files, notes = write("fargate", Setup(Path("/x"), disk=huge))
    assert json.loads(files["task.json"])["ephemeralStorage"] == {"sizeInGiB": 200}
    assert any(str(huge.volume_gib) in note for note in notes)


@pytest.mark.parametrize("form", ["eks", "ecs"])
def test_ec2_takes_the_launch_template(form: Form) -> None:
    needed_module("botocore", "aws")
    from botocore.session import get_session
    from botocore.validate import ParamValidator

    files = written(form)
    content = json.loads(files["launch-template-data.json"])
    model = get_session().get_service_model("ec2").operation_model("CreateLaunchTemplate")
    shape = model.input_shape.members["LaunchTemplateData"]
    assert not ParamValidator().validate(content, shape).has_errors()
    sizes = [each["Ebs"]["VolumeSize"] for each in content["BlockDeviceMappings"]]
    assert sizes == ([20, SIZE.volume_gib] if form == "eks" else [20 + SIZE.volume_gib])
    if form == "eks":
        assert base64.b64decode(content["UserData"]) == files["user-data.txt"]


def test_a_task_says_how_its_image_came(tmp_path: Path) -> None:
    """The script, against a document of the metadata endpoint (its page: version 4 on Fargate)."""
    script = written("fargate", size=None)["was-it-lazy.sh"]
    (tmp_path / "wget").write_text('#!/bin/sh\necho \'{"DockerId":"x","Snapshotter":"soci","Limits":{"CPU":2}}\'\n')
    (tmp_path / "wget").chmod(0o755)
    own = {"PATH": f"{tmp_path}:/usr/bin:/bin", "ECS_CONTAINER_METADATA_URI_V4": "http://127.0.0.1:9/v4/x"}
    done = subprocess.run(["sh"], input=script, capture_output=True, env=own)
    assert (done.returncode, done.stdout) == (0, b"soci\n"), done.stderr


def test_ecs_instances_get_settings_of_their_agent(tmp_path: Path) -> None:
    script = written("ecs")["user-data.sh"].decode().replace("/etc/ecs", str(tmp_path))
    assert subprocess.run(["bash"], input=script, text=True).returncode == 0
    lines = dict(line.split("=", 1) for line in (tmp_path / "ecs.config").read_text().splitlines())
    assert lines["ECS_IMAGE_PULL_BEHAVIOR"] == "prefer-cached"


def test_gke_has_each_field_of_the_pool(tmp_path: Path) -> None:
    """By the API's own description, as its SDK has it; Terraform's provider writes the same names with underscores."""
    needed_module("googleapiclient", "gcp")
    import googleapiclient

    folder = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
    schemas = json.loads((folder / "container.v1.json").read_bytes())["schemas"]
    files = written("gke")
    (pool,) = json.loads(files["node-pool.tf.json"])["resource"]["google_container_node_pool"].values()
    node = pool["node_config"]
    own = schemas["NodeConfig"]["properties"]
    for name, (of, inner) in {
        "gcfs_config": ("GcfsConfig", node["gcfs_config"]),
        "kubelet_config": ("NodeKubeletConfig", node["kubelet_config"]),
        "secondary_boot_disks": ("SecondaryBootDisk", node["dynamic"]["secondary_boot_disks"]["content"]),
    }.items():
        assert camel(name) in own
        assert {camel(each) for each in inner} <= set(schemas[of]["properties"])
    plain = {each for each in node if each not in ("dynamic", "disk_size_gb", "kubelet_config", "gcfs_config")}
    assert {camel(each) for each in plain} <= set(own)
    system = yaml.safe_load(files["node-system-config.yaml"])
    assert set(system["kubeletConfig"]) <= set(schemas["NodeKubeletConfig"]["properties"])
    assert 10 <= system["kubeletConfig"]["imageGcLowThresholdPercent"] < 85
    assert system["kubeletConfig"]["imageGcHighThresholdPercent"] <= 85


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(each.title() for each in rest)


def test_a_pool_of_gke_is_made_with_and_without_a_disk_of_images(tmp_path: Path) -> None:
    """The commands, with a ``gcloud`` that says what it was given."""
    script = written("gke")["create-node-pool.sh"]
    (tmp_path / "gcloud").write_text('#!/bin/sh\nfor word; do echo "$word"; done\n')
    (tmp_path / "gcloud").chmod(0o755)
    own = {"PATH": f"{tmp_path}:/usr/bin:/bin", "CLUSTER": "a b", "LOCATION": "x", "MACHINE_TYPE": "n1"}
    plain = subprocess.run(["sh"], input=script, capture_output=True, env=own)
    words = plain.stdout.decode().splitlines()
    assert plain.returncode == 0, plain.stderr
    assert words[words.index("--cluster") + 1] == "a b"
    assert words[words.index("--disk-size") + 1] == str(30 + SIZE.volume_gib)
    assert words[-1] == "node-system-config.yaml"
    more = subprocess.run(["sh"], input=script, capture_output=True, env={**own, "DISK_IMAGE": "projects/p/i"})
    assert more.stdout.decode().splitlines()[-1] == (
        "--secondary-boot-disk=disk-image=projects/p/i,mode=CONTAINER_IMAGE_CACHE"
    )
    assert subprocess.run(["sh"], input=script, env={"PATH": own["PATH"]}, capture_output=True).returncode != 0


def test_images_that_gke_did_not_stream_are_named(tmp_path: Path) -> None:
    """The event as clusters print it, with and without quotes around the image."""
    script = written("gke", size=None)["was-it-streamed.sh"]
    (tmp_path / "kubectl").write_text(
        "#!/bin/sh\n"
        "case $2 in\n"
        "events) echo 'Image x.pkg.dev/p/r/a:1 is backed by image streaming.'\n"
        "  echo 'Image `x.pkg.dev/p/r/b:2` is backed by image streaming.' ;;\n"
        "pods) printf '%s\\n' x.pkg.dev/p/r/c:3 x.pkg.dev/p/r/a:1 x.pkg.dev/p/r/b:2 x.pkg.dev/p/r/a:1 ;;\n"
        "esac\n"
    )
    (tmp_path / "kubectl").chmod(0o755)
    done = subprocess.run(["sh"], input=script, capture_output=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert done.stdout.decode().splitlines() == [
        "streamed  x.pkg.dev/p/r/a:1",
        "streamed  x.pkg.dev/p/r/b:2",
        "whole?    x.pkg.dev/p/r/c:3",
    ]


@pytest.mark.peer("containerd")
@pytest.mark.parametrize("form", ["soci", "stargz"])
def test_containerd_1_takes_the_snapshotters_of_others(form: Form, peer: Callable[[str], str], tmp_path: Path) -> None:
    found = others(form, peer("containerd"), tmp_path, "containerd-1", 2)
    assert found["proxy_plugins"][form]["type"] == "snapshot"


@pytest.mark.long
@pytest.mark.peer(TWO[0])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("form", ["soci", "stargz"])
def test_containerd_2_takes_the_snapshotters_of_others(
    form: Form, peer: Callable[[str], str], tmp_path: Path, version: int
) -> None:
    found = others(form, peer(TWO[0]), tmp_path, VERSION_2 if version == 2 else "containerd-2", version)
    runtimes = found["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]
    assert runtimes["runc"]["options"]["BinaryName"] == "/opt/mine/runc"
    assert found["proxy_plugins"][form]["exports"]["enable_remote_snapshot_annotations"] == "true"
    images = found["plugins"][IMAGES]
    assert (images["snapshotter"], images["disable_snapshot_annotations"]) == (form, False)


@pytest.mark.long
@pytest.mark.peer(TWO[0])
def test_containerd_2_takes_what_a_node_of_eks_gives_it(peer: Callable[[str], str], tmp_path: Path) -> None:
    found = parts(written("eks")["user-data.txt"].decode())["application/node.eks.aws"]
    text = yaml.safe_load(found)["spec"]["containerd"]["config"]
    (tmp_path / "eks.toml").write_text(f"version = 3\n{text}")
    dump = dumped(
        peer(TWO[0]),
        tmp_path,
        tmp_path / "eks.toml",
        version=3,
        cri="io.containerd.cri.v1.runtime",
    )
    assert dump["proxy_plugins"][NAME]["type"] == "snapshot"
    images, runtime = (dump["plugins"][f"io.containerd.cri.v1.{each}"] for each in ("images", "runtime"))
    assert images["runtime_platforms"][NAME]["snapshotter"] == NAME
    assert images["disable_snapshot_annotations"] is images["discard_unpacked_layers"] is False
    assert runtime["containerd"]["runtimes"][NAME]["snapshotter"] == NAME


def others(form: Form, program: str, folder: Path, where: str, version: int) -> dict[str, Any]:
    assert setup(form, "--to", str(folder / "to")).exit_code == 0
    file = folder / "to" / where / f"{form}.toml"
    cri = "io.containerd.grpc.v1.cri" if version == 2 else "io.containerd.cri.v1.runtime"
    return dumped(program, folder, file, version=version, cri=cri)


def test_soci_serves_both_kinds_of_our_indexes() -> None:
    """Names: soci-snapshotter v0.15, ``docs/config.md``. Its daemon refuses none that it does not know, so they are
    compared here."""
    settings = tomllib.loads(written("soci", size=None)["soci-config.toml"].decode())
    assert settings["pull_modes"]["soci_v1"] == settings["pull_modes"]["soci_v2"] == {"enable": True}
    assert settings["pull_modes"]["parallel_pull_unpack"] == {"experimental_parallel_pull_as_fallback": True}
    assert settings["cri_keychain"] == {
        "enable_keychain": True,
        "image_service_path": "/run/containerd/containerd.sock",
    }


def test_stargz_has_the_accounts_of_pulls() -> None:
    """Names: stargz-snapshotter v0.18, ``docs/overview.md``; likewise."""
    settings = tomllib.loads(written("stargz", size=None)["stargz-config.toml"].decode())
    assert settings == {
        "cri_keychain": {"enable_keychain": True, "image_service_path": "/run/containerd/containerd.sock"}
    }


def test_pods_get_the_configuration_and_the_keys(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(f"{CONFIG}state: /data/rp\nnode: {{hosts: [/etc/docker/certs.d, /data/certs]}}\n")
    key = tmp_path / "indexer.pem"
    key.write_text(PUBLIC)
    to = tmp_path / "to"
    done = setup(
        *("kubernetes", "--to", str(to), "--image", "eu.example.com/rp:v1"),
        *("--config", str(own), "--key", str(key)),
    )
    assert done.exit_code == 0, done.output
    data = yaml.safe_load((to / "configmap.yaml").read_bytes())["data"]
    assert data == {"registry-pipelines.yaml": own.read_text(), "indexer.pem": PUBLIC}
    pod = yaml.safe_load((to / "daemonset.yaml").read_bytes())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    folders = {each["mountPath"]: each for each in container["volumeMounts"]}
    assert container["args"][-4:] == [
        "--config",
        "/etc/registry-pipelines/config/registry-pipelines.yaml",
        "--key",
        "/etc/registry-pipelines/config/indexer.pem",
    ]
    assert folders["/etc/registry-pipelines/config"]["readOnly"]
    # What the configuration has the agent follow is there, too.
    assert folders["/etc/docker/certs.d"]["readOnly"] and folders["/data/certs"]["readOnly"]
    assert "/etc/containerd/certs.d" not in folders
    # What was fetched outlives the pod.
    assert folders["/data/rp"]["mountPropagation"] == "Bidirectional"


@pytest.mark.parametrize("form", CARRIES)
def test_what_has_no_place_on_a_node_is_refused(form: Form, tmp_path: Path) -> None:
    image = {"image": "eu.example.com/rp:v1"} if form == "kubernetes" else {}
    key, own, other = tmp_path / "key.pem", tmp_path / "own.yaml", tmp_path / "b" / "key.pem"
    own.write_text("version: 1\n")
    key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    other.parent.mkdir()
    other.write_text(PUBLIC)
    for wrong in (
        {"keys": (key,)},
        {"keys": (other, other)},
        {"keys": (tmp_path / "nowhere",)},
        {"config": own, "state": tmp_path / ".registry-pipelines"},
        {"config": own},
    ):
        with pytest.raises(RegistryPipelinesError):
            written(form, size=None, **image, **wrong)


@pytest.mark.parametrize("form", list(FORMS))
def test_only_forms_with_a_size_take_one(form: Form, tmp_path: Path) -> None:
    image = {"image": "eu.example.com/rp:v1"} if form == "kubernetes" else {}
    if form in SIZED:
        assert written(form, **image) != written(form, size=None, **image)
    else:
        with pytest.raises(InputError):
            written(form, **image)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"result": {"disk": 1}}', b"\xff", b'{"result": null}'])
def test_a_size_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "size.json").write_bytes(content)
    done = setup("kubelet", "--to", str(tmp_path / "to"), "--size", str(tmp_path / "size.json"))
    assert done.exit_code == InputError.exit_code
    assert not (tmp_path / "to").exists()
