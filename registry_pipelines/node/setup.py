"""What a node's other programs are told so that ``node serve`` is their snapshotter, as files to review and put there.

Nothing on this machine is changed, and no file holds an account. Rules: containerd's ``docs/PLUGINS.md`` ("Proxy
Plugins"), ``docs/cri/config.md`` and ``docs/remote-snapshotter.md``; systemd.service(5); Docker's "containerd image
store"; Kubernetes' DaemonSet (apps/v1) and RuntimeClass (node.k8s.io/v1).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from registry_pipelines.errors import InputError
from registry_pipelines.node.serving import ROOT, SOCKET
from registry_pipelines.oci.references import Reference
from registry_pipelines.yaml_text import to_yaml

NAME = "registry-pipelines"
"""Of the snapshotter, the runtime of containerd and the RuntimeClass that use it, the unit and the DaemonSet."""
STATE = Path("/var/lib")
"""Where the agent keeps what it has: in a folder of its own there, which nothing that cleans up looks into."""
ENDED_S = 30
LOGIN_FOLDER = "/etc/registry-pipelines/docker"

Form = Literal["containerd", "docker", "systemd", "kubernetes"]
FORMS: dict[Form, str] = {
    "containerd": "the snapshotter, for containerd 1.6 to 2.x",
    "docker": "the same, and Docker's daemon.json",
    "systemd": "a unit that runs `node serve` on the host",
    "kubernetes": "a DaemonSet that runs it (--image), and the RuntimeClass for pods; nodes need `containerd`, too",
}

_HEAD = "Written by `registry-pipelines node setup`; no account is in it."
_PROXY = """\
# {head}
version = {version}

[proxy_plugins.{name}]
  type = "snapshot"
  address = {socket}
  capabilities = ["remap-ids"]
  [proxy_plugins.{name}.exports]
    enable_remote_snapshot_annotations = "true"
"""
_CRI_2 = """
# Pulls say which image a layer is of.
[plugins."io.containerd.cri.v1.images"]
  disable_snapshot_annotations = false
  [plugins."io.containerd.cri.v1.images".runtime_platforms.{name}]
    snapshotter = "{name}"

# Only pods of this runtime depend on the agent.
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.{name}]
  runtime_type = "io.containerd.runc.v2"
  snapshotter = "{name}"
{unpack}"""
_UNPACK = """
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/{architecture}"
  snapshotter = "{snapshotter}"
  differ = "walking"
"""
_CRI_1 = """\
# {head}
# By hand into /etc/containerd/config.toml, into the section that is there: as a file of `imports` it would replace all
# of that section. Pods have one snapshotter then; containerd 1.6 knows none of a runtime's own.
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "{name}"
  disable_snapshot_annotations = false
"""
_UNIT = """\
# {head}
[Unit]
Description=Snapshotter of containerd: registry-pipelines node serve
After=network-online.target
Wants=network-online.target
Before=containerd.service docker.service

[Service]
Type=exec
ExecStart={command}
Environment=XDG_STATE_HOME={state}
Restart=always
RestartSec=1
TimeoutStopSec={ended_s}
# Its mounts are those of the host: no PrivateMounts, and nothing that implies it.
LimitNOFILE=1048576
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Setup:
    """How the agent is started, the same in all forms. Paths are absolute."""

    program: Path
    socket: Path = SOCKET
    root: Path = ROOT
    config: Path | None = None
    """Of the agent on the host; None for none."""
    image: str = ""
    """The product's own, for ``kubernetes``."""

    @property
    def arguments(self) -> list[str]:
        """Behind the program."""
        return ["node", "serve", "--socket", str(self.socket), "--root", str(self.root)]


class Written(NamedTuple):
    """files: content by path. notes: what is to be done with them."""

    files: dict[str, bytes]
    notes: list[str]


def write(form: Form, setup: Setup) -> Written:
    """The files of a form. Raises InputError, ReferenceInvalid."""
    for path in (setup.program, setup.socket, setup.root, *([setup.config] if setup.config else [])):
        if not path.is_absolute() or any(ord(each) < ord(" ") for each in str(path)):
            raise InputError("other programs take absolute paths in one line alone", where=repr(str(path)))
    if bool(setup.image) != (form == "kubernetes"):
        raise InputError(
            "the image of the agent is for `kubernetes`, and needed there",
            where=f"node setup {form}",
            do="Give --image REF, the product's own image, with `kubernetes` and with nothing else",
        )
    if setup.config is not None and form != "systemd":
        raise InputError(
            "only the unit names a configuration",
            where=f"node setup {form}",
            do="Leave --config out, or take `systemd`",
        )
    return _FORMS[form](setup)


def _containerd(setup: Setup) -> Written:
    socket = json.dumps(str(setup.socket), ensure_ascii=False)
    one, two = (_PROXY.format(head=_HEAD, version=each, name=NAME, socket=socket) for each in (2, 3))
    unpack = "# `ctr` and Docker pull for either; a list in another file would replace this one.\n" + "\n".join(
        _UNPACK.format(architecture=architecture, snapshotter=snapshotter).strip("\n") + "\n"
        for architecture in ("amd64", "arm64")
        for snapshotter in ("overlayfs", NAME)
    )
    files = {
        f"containerd-2/{NAME}.toml": two + _CRI_2.format(name=NAME, unpack=f"\n{unpack}"),
        f"containerd-1/{NAME}.toml": one,
        "containerd-1/cri.toml": _CRI_1.format(head=_HEAD, name=NAME),
    }
    folder = "/etc/containerd/conf.d"
    notes = [
        f"containerd 2: containerd-2/{NAME}.toml into {folder}; 1.6 and 1.7: containerd-1/{NAME}.toml there, and "
        "for pods what cri.toml says",
        f'name that folder in /etc/containerd/config.toml, above its first section: imports = ["{folder}/*.toml"]; '
        "restart containerd once, running containers stay",
        "a list `unpack_config` of your own in config.toml does not count beside ours: move its entries there",
    ]
    return Written({name: text.encode() for name, text in files.items()}, notes)


def _docker(setup: Setup) -> Written:
    files, notes = _containerd(setup)
    content = {"features": {"containerd-snapshotter": True}, "storage-driver": NAME}
    files["daemon.json"] = json.dumps(content, indent=2).encode() + b"\n"
    more = [
        "take daemon.json into /etc/docker/daemon.json and restart dockerd; images and containers of another storage "
        "driver are not seen meanwhile, and are there again with it",
        "dockerd must use the host's containerd, as packages set it up: one that it starts itself reads no such files",
    ]
    return Written(files, [*notes, *more])


def _systemd(setup: Setup) -> Written:
    arguments = [*setup.arguments, *(["--config", str(setup.config)] if setup.config else [])]
    if any(each in text for text in (str(setup.program), *arguments) for each in "\"'\\"):
        raise InputError(
            "systemd takes no quotes and no backslashes in the name of a program",
            where=" ".join([str(setup.program), *arguments]),
        )
    program = str(setup.program).replace("%", "%%")  # variables are not looked for in it
    command = " ".join([_quoted(program), *(_quoted(each.replace("%", "%%").replace("$", "$$")) for each in arguments)])
    text = _UNIT.format(head=_HEAD, command=command, state=STATE, ended_s=ENDED_S)
    notes = [
        f"{NAME}-node.service into /etc/systemd/system, then `systemctl enable --now {NAME}-node`; what it says is in "
        f"`journalctl -u {NAME}-node`",
        "when it ends, containers of images that it serves get errors for what is not read yet: drain the node first",
    ]
    return Written({f"{NAME}-node.service": text.encode()}, notes)


def _quoted(text: str) -> str:
    """As systemd splits a command line: systemd.service(5), "Command lines"."""
    return f'"{text}"' if any(each in text for each in " ;") else text


def _kubernetes(setup: Setup) -> Written:
    Reference.parse(setup.image)
    runtime = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": NAME},
        "handler": NAME,
    }
    files = {
        "daemonset.yaml": to_yaml(_daemon_set(setup), comment=_HEAD),
        "runtimeclass.yaml": to_yaml(runtime, comment=_HEAD),
    }
    notes = [
        "each node needs what `node setup containerd` writes, and containerd restarted; then `kubectl apply -f` both",
        f"a pod asks for it by `runtimeClassName: {NAME}` and, so that its images are pulled for it, by the annotation "
        f"io.containerd.cri.runtime-handler: {NAME}",
        f"accounts of registries: a secret {NAME}-node in kube-system of type kubernetes.io/dockerconfigjson",
        "a new version starts on a node when its pod is deleted: drain the node first, since containers of images that "
        "it serves get errors for what is not read yet",
    ]
    return Written(files, notes)


def _daemon_set(setup: Setup) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": f"{NAME}-node"}
    folders = _outermost([setup.socket.parent, setup.root, STATE / NAME])
    # What it mounts is for the host; the same paths there, since containerd mounts what it is told.
    mounted: list[dict[str, Any]] = [
        {"name": f"host-{number}", "mountPath": str(path), "mountPropagation": "Bidirectional"}
        for number, path in enumerate(folders)
    ]
    volumes: list[dict[str, Any]] = [
        {"name": f"host-{number}", "hostPath": {"path": str(path), "type": "DirectoryOrCreate"}}
        for number, path in enumerate(folders)
    ]
    login = {"key": ".dockerconfigjson", "path": "config.json"}
    volumes.append({"name": "login", "secret": {"secretName": f"{NAME}-node", "optional": True, "items": [login]}})
    container = {
        "name": "agent",
        "image": setup.image,
        "args": setup.arguments,
        "env": [
            {"name": "XDG_STATE_HOME", "value": str(STATE)},
            {"name": "DOCKER_CONFIG", "value": LOGIN_FOLDER},
        ],
        "securityContext": {"privileged": True, "runAsUser": 0, "runAsGroup": 0},
        "volumeMounts": [*mounted, {"name": "login", "mountPath": LOGIN_FOLDER, "readOnly": True}],
    }
    pod = {
        "hostNetwork": True,
        "automountServiceAccountToken": False,
        "priorityClassName": "system-node-critical",
        "terminationGracePeriodSeconds": ENDED_S,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
        "volumes": volumes,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": f"{NAME}-node", "namespace": "kube-system", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "updateStrategy": {"type": "OnDelete"},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _outermost(folders: Sequence[Path]) -> list[Path]:
    """Without those that lie in another."""
    every = sorted(set(folders))
    return [each for each in every if not any(each != other and each.is_relative_to(other) for other in every)]


_FORMS: dict[Form, Callable[[Setup], Written]] = {
    "containerd": _containerd,
    "docker": _docker,
    "systemd": _systemd,
    "kubernetes": _kubernetes,
}

__all__ = ["FORMS", "NAME", "Form", "Setup", "Written", "write"]
