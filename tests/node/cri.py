"""What a kubelet asks a container runtime, over its socket: pods, containers, images and what they take.

Source: the fields' numbers in Kubernetes' ``cri-api`` (``pkg/apis/runtime/v1/api.proto``); only those that are used.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from registry_pipelines.node.messages import classes
from tests.patience import patient

NODE = 2
"""A namespace of the machine's (NamespaceMode)."""
_P = ".runtime.v1."
_NAME = (("name", 1, "string"), ("uid", 2, "string"), ("namespace", 3, "string"), ("attempt", 4, "uint32"))
_POD_ID, _ID = (("pod_sandbox_id", 1, "string"),), (("container_id", 1, "string"),)
_IMAGE = (("image", 1, f"{_P}ImageSpec"),)
_MESSAGES = {
    "IDMapping": (("host_id", 1, "uint32"), ("container_id", 2, "uint32"), ("length", 3, "uint32")),
    "UserNamespace": (("mode", 1, "int32"), ("uids", 2, f"*{_P}IDMapping"), ("gids", 3, f"*{_P}IDMapping")),
    "NamespaceOption": (
        ("network", 1, "int32"),
        ("pid", 2, "int32"),
        ("ipc", 3, "int32"),
        ("userns_options", 5, f"{_P}UserNamespace"),
    ),
    "LinuxSandboxSecurityContext": (("namespace_options", 1, f"{_P}NamespaceOption"), ("privileged", 6, "bool")),
    "LinuxPodSandboxConfig": (
        ("cgroup_parent", 1, "string"),
        ("security_context", 2, f"{_P}LinuxSandboxSecurityContext"),
    ),
    "PodSandboxMetadata": _NAME,
    "PodSandboxConfig": (
        ("metadata", 1, f"{_P}PodSandboxMetadata"),
        ("hostname", 2, "string"),
        ("log_directory", 3, "string"),
        ("annotations", 7, "map"),
        ("linux", 8, f"{_P}LinuxPodSandboxConfig"),
    ),
    "ImageSpec": (("image", 1, "string"), ("annotations", 2, "map"), ("runtime_handler", 19, "string")),
    "ContainerMetadata": (("name", 1, "string"), ("attempt", 2, "uint32")),
    "Number": (("value", 1, "int64"),),
    "KeyValue": (("key", 1, "string"), ("value", 2, "string")),
    "Mount": (
        ("container_path", 1, "string"),
        ("host_path", 2, "string"),
        ("readonly", 3, "bool"),
        ("propagation", 5, "int32"),
        ("image", 9, f"{_P}ImageSpec"),
    ),
    "LinuxContainerSecurityContext": (
        ("privileged", 2, "bool"),
        ("run_as_user", 5, f"{_P}Number"),
        ("namespace_options", 3, f"{_P}NamespaceOption"),
        ("run_as_username", 6, "string"),
    ),
    "LinuxContainerConfig": (("security_context", 2, f"{_P}LinuxContainerSecurityContext"),),
    "ContainerConfig": (
        ("metadata", 1, f"{_P}ContainerMetadata"),
        ("image", 2, f"{_P}ImageSpec"),
        ("command", 3, "*string"),
        ("args", 4, "*string"),
        ("envs", 6, f"*{_P}KeyValue"),
        ("mounts", 7, f"*{_P}Mount"),
        ("log_path", 11, "string"),
        ("linux", 15, f"{_P}LinuxContainerConfig"),
    ),
    "Count": (("value", 1, "uint64"),),
    "FilesystemIdentifier": (("mountpoint", 1, "string"),),
    "FilesystemUsage": (
        ("timestamp", 1, "int64"),
        ("fs_id", 2, f"{_P}FilesystemIdentifier"),
        ("used_bytes", 3, f"{_P}Count"),
        ("inodes_used", 4, f"{_P}Count"),
    ),
    "ContainerStats": (("writable_layer", 4, f"{_P}FilesystemUsage"),),
    "ContainerStatus": (
        ("id", 1, "string"),
        ("state", 3, "int32"),
        ("exit_code", 7, "int32"),
        ("reason", 10, "string"),
        ("message", 11, "string"),
    ),
    "Image": (
        ("id", 1, "string"),
        ("repo_tags", 2, "*string"),
        ("repo_digests", 3, "*string"),
        ("size", 4, "uint64"),
    ),
    "RunPodSandboxRequest": (("config", 1, f"{_P}PodSandboxConfig"), ("runtime_handler", 2, "string")),
    "RunPodSandboxResponse": _POD_ID,
    "StopPodSandboxRequest": _POD_ID,
    "RemovePodSandboxRequest": _POD_ID,
    "CreateContainerRequest": (
        *_POD_ID,
        ("config", 2, f"{_P}ContainerConfig"),
        ("sandbox_config", 3, f"{_P}PodSandboxConfig"),
    ),
    "CreateContainerResponse": _ID,
    "StartContainerRequest": _ID,
    "StopContainerRequest": (*_ID, ("timeout", 2, "int64")),
    "RemoveContainerRequest": _ID,
    "ContainerStatusRequest": _ID,
    "ContainerStatusResponse": (("status", 1, f"{_P}ContainerStatus"),),
    "ExecSyncRequest": (*_ID, ("cmd", 2, "*string"), ("timeout", 3, "int64")),
    "ExecSyncResponse": (("stdout", 1, "bytes"), ("stderr", 2, "bytes"), ("exit_code", 3, "int32")),
    "ContainerStatsRequest": _ID,
    "ContainerStatsResponse": (("stats", 1, f"{_P}ContainerStats"),),
    "PullImageRequest": (*_IMAGE, ("sandbox_config", 3, f"{_P}PodSandboxConfig")),
    "PullImageResponse": (("image_ref", 1, "string"),),
    "RemoveImageRequest": _IMAGE,
    "ListImagesRequest": (),
    "ListImagesResponse": (("images", 1, f"*{_P}Image"),),
    "ImageFsInfoRequest": (),
    "ImageFsInfoResponse": (("image_filesystems", 1, f"*{_P}FilesystemUsage"),),
    "Nothing": (),
}
message = classes({"runtime.v1": _MESSAGES})
_IMAGE_CALLS = ("PullImage", "RemoveImage", "ListImages", "ImageFsInfo")
_EMPTY = ("StopPodSandbox", "RemovePodSandbox", "StartContainer", "StopContainer", "RemoveContainer", "RemoveImage")


class Cri:
    """Calls of a kubelet. folder: for the logs of containers."""

    def __init__(self, socket: Path, folder: Path) -> None:
        import grpc

        self._channel, self._folder = grpc.insecure_channel(f"unix://{socket}"), folder
        self.errors = grpc.RpcError

    def close(self) -> None:
        self._channel.close()

    def call(self, name: str, **fields: Any) -> Any:
        service = "ImageService" if name in _IMAGE_CALLS else "RuntimeService"
        answered = "Nothing" if name in _EMPTY else f"{name}Response"
        method = self._channel.unary_unary(
            f"/runtime.v1.{service}/{name}",
            request_serializer=message(f"runtime.v1.{name}Request").SerializeToString,
            response_deserializer=message(f"runtime.v1.{answered}").FromString,
        )
        return method(message(f"runtime.v1.{name}Request")(**fields), wait_for_ready=True, timeout=patient(60))

    def pull(self, image: str, *, pod: dict[str, Any] | None = None, handler: str = "") -> str:
        spec = {"image": image, "runtime_handler": handler}
        return str(self.call("PullImage", image=spec, sandbox_config=pod or {}).image_ref)

    def images(self) -> list[str]:
        return [image.id for image in self.call("ListImages").images]

    def remove_image(self, image: str) -> None:
        self.call("RemoveImage", image={"image": image})

    def image_disk(self) -> tuple[str, int]:
        """The folder by which a kubelet finds the disk that images fill, and bytes of all snapshots as the runtime last
        counted them."""
        [found] = self.call("ImageFsInfo").image_filesystems
        return found.fs_id.mountpoint, found.used_bytes.value

    def written_bytes(self, container: str) -> int:
        """Of a container's own layer."""
        return int(self.call("ContainerStats", container_id=container).stats.writable_layer.used_bytes.value)

    def state(self, container: str) -> Any:
        return self.call("ContainerStatus", container_id=container).status

    def exec(self, container: str, *command: str) -> str:
        done = self.call("ExecSync", container_id=container, cmd=list(command), timeout=int(patient(30)))
        assert done.exit_code == 0, done.stderr.decode()
        return str(done.stdout.decode())

    @contextmanager
    def pod(
        self,
        *,
        mapped: int | None = None,
        handler: str = "",
        privileged: bool = False,
        sees_all: bool = False,
        annotations: Mapping[str, str] | None = None,
    ) -> Iterator[Pod]:
        """A pod in the machine's network. annotations: as who made it wrote them. mapped: in a user namespace, whose
        root is this user of the machine, and in a network of its own, since the two go together.
        sees_all: it has the machine's processes, too (``hostPID``)."""
        options: dict[str, Any] = {"network": NODE if mapped is None else 0}
        if sees_all:
            options["pid"] = NODE
        if mapped is not None:
            ids = [{"host_id": mapped, "container_id": 0, "length": 65536}]
            options["userns_options"] = {"mode": 0, "uids": ids, "gids": ids}
        word = uuid.uuid4().hex[:12]
        config = {
            "metadata": {"name": f"node-{word}", "uid": word, "namespace": "default"},
            "log_directory": str(self._folder),
            "annotations": dict(annotations or {}),
            "linux": {"security_context": {"namespace_options": options, "privileged": privileged}},
        }
        number = self.call("RunPodSandbox", config=config, runtime_handler=handler).pod_sandbox_id
        try:
            yield Pod(self, number, config, options)
        finally:
            self.call("StopPodSandbox", pod_sandbox_id=number)
            self.call("RemovePodSandbox", pod_sandbox_id=number)


class Pod:
    """A pod that runs."""

    def __init__(self, cri: Cri, number: str, config: dict[str, Any], options: dict[str, Any]) -> None:
        self._cri, self._id, self.config, self._options = cri, number, config, options

    def start(self, image: str, script: str) -> str:
        """A container's id."""
        return self.run({"image": {"image": image}, "command": ["/bin/sh", "-c", script]})

    def run(self, container: dict[str, Any], **security: Any) -> str:
        """The same for a container of any kind. security: its own part of that."""
        name = uuid.uuid4().hex[:12]
        config = {
            "metadata": {"name": name},
            "log_path": f"{name}.log",
            "linux": {"security_context": {"namespace_options": self._options, **security}},
            **container,
        }
        made = self._cri.call(
            "CreateContainer", pod_sandbox_id=self._id, config=config, sandbox_config=self.config
        ).container_id
        self._cri.call("StartContainer", container_id=made)
        return str(made)

    def remove(self, container: str) -> None:
        self._cri.call("StopContainer", container_id=container, timeout=0)
        self._cri.call("RemoveContainer", container_id=container)
