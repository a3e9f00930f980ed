"""Kubernetes objects that bring weights to a program: one pod each, with a guard that lets it start with its weights
alone.

The guard is an init container that looks for the files: an API server before 1.35 drops a volume of kind ``image``
without a word (the feature gate ImageVolume was off by default), a bucket may have another prefix, a disk may have been
filled by half. Of weights in a bucket or on a disk the list (``weights.json``) comes last, so it stands for all.
Sources: Kubernetes' core/v1 and storage.k8s.io/v1, snapshot.storage.k8s.io/v1; Mountpoint for Amazon S3's and Cloud
Storage FUSE's CSI drivers, those of EBS and of Compute Engine's persistent disks (their own pages on parameters).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from registry_pipelines.errors import InputError
from registry_pipelines.progress import count_text
from registry_pipelines.weights.hashing import LIST_FILE
from registry_pipelines.weights.model import MountForm, WeightFile

Object = dict[str, Any]

VOLUME = "weights"
GUARD = "weights-are-there"
PULL = "weights-come"
LOGIN = "/etc/registry-pipelines/docker"
MAX_GUARDED = 200
"""Files that a guard looks for by name; of more the largest, since a command has a limit."""
GIB = 1 << 30
SPARE_BYTES = 16 * 1024 * 1024
BLOCK_BYTES = 4096
"""Beside the bytes of files: their list, folders, and the end of the last block of each."""
ROOM = 1.1
"""Of a disk: file systems want a part for themselves."""

_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,40}[a-z0-9])?")
_BUCKET = re.compile(r"(s3|gs)://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/([A-Za-z0-9._/=+@-]*))?")
_PATH = re.compile(r"(?:/[A-Za-z0-9._@=+-]+)+")


@dataclass(frozen=True)
class Wanted:
    """What is to be mounted. source: ``REGISTRY/REPOSITORY@DIGEST``, or ``s3://bucket/prefix``, ``gs://bucket/prefix``.
    files: of weights in a registry. path: where the program finds them. image: of the program. tool: an image with this
    program, which pulls and guards."""

    form: MountForm
    source: str
    path: str
    image: str
    tool: str
    name: str = "model"
    files: tuple[WeightFile, ...] = ()
    region: str = ""
    is_image: bool = False
    """The weights are a plain image, which every runtime mounts."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Snippet:
    """Objects in the order in which they are applied, and what else there is to know."""

    objects: tuple[Object, ...]
    notes: tuple[str, ...]


def snippet(wanted: Wanted) -> Snippet:
    """The objects. Raises InputError for what does not go together, and for names and paths that Kubernetes or a shell
    would read otherwise."""
    if not _NAME.fullmatch(wanted.name):
        raise InputError(f"{wanted.name!r} is no name of an object", do="Write lower-case letters, digits and hyphens")
    for image in (wanted.image, wanted.tool):
        if not image or any(letter.isspace() for letter in image):
            raise InputError(f"{image!r} is no image", do="Write REGISTRY/REPOSITORY:TAG, or with @DIGEST")
    if wanted.region and wanted.form != "csi-s3":
        raise InputError(f"--region is of an S3 bucket, and the form is {wanted.form}", do="Leave it out")
    if not _PATH.fullmatch(wanted.path) or any(part in (".", "..") for part in wanted.path.split("/")):
        raise InputError(f"{wanted.path!r} is no folder to mount at", do="Write an absolute path, as /models/llama")
    return _FORMS[wanted.form](wanted)


def guard_command(wanted: Wanted) -> list[str]:
    """What the guard runs: it ends with 0 when the weights are there, else with 1 and says which file is missing."""
    if wanted.form == "image-volume":
        some = [file for file in wanted.files if file.size] or wanted.files  # of an empty one nobody can tell
        largest = sorted(some, key=lambda file: (-file.size, file.path))[:MAX_GUARDED]
        names = sorted(file.path for file in largest)
    else:
        names = [LIST_FILE]
    listed = " ".join(shlex.quote(f"{wanted.path}/{name}") for name in names)
    missing = 'echo "$f is missing: the volume was not mounted, or is not whole" >&2; exit 1'
    return ["sh", "-c", f'for f in {listed}; do [ -s "$f" ] || {{ {missing}; }}; done']


def _guard(wanted: Wanted) -> Object:
    return {
        "name": GUARD,
        "image": wanted.tool,
        "command": guard_command(wanted),
        "volumeMounts": [_mount(wanted)],
    }


def _mount(wanted: Wanted, *, writes: bool = False) -> Object:
    return {"name": VOLUME, "mountPath": wanted.path, **({} if writes else {"readOnly": True})}


def _pod(wanted: Wanted, volume: Object, *more: Object, init: Object | None = None, annotations: Any = None) -> Object:
    volumes = [{"name": VOLUME, **volume}, *more]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": wanted.name, **({"annotations": annotations} if annotations else {})},
        "spec": {
            "initContainers": [init or _guard(wanted)],
            "containers": [{"name": "program", "image": wanted.image, "volumeMounts": [_mount(wanted)]}],
            "volumes": volumes,
        },
    }


def _image_volume(wanted: Wanted) -> Snippet:
    _need_registry(wanted)
    volume = {"image": {"reference": wanted.source, "pullPolicy": "IfNotPresent"}}
    notes = [
        "an API server before 1.35 drops volumes of kind image without a word, unless the gate ImageVolume is on; the "
        f"init container {GUARD} then keeps the pod from starting",
    ]
    if not wanted.is_image:
        notes.append(
            "CRI-O mounts artifacts; containerd mounts images alone: of this artifact it makes an empty folder, "
            "without an error, at which the guard fails. For containerd have the weights as an image, too: "
            "`registry-pipelines weights sync REF REF2 --form image`"
        )
    if len(wanted.files) > MAX_GUARDED:
        notes.append(f"the guard looks for the {MAX_GUARDED} largest of {count_text(len(wanted.files), 'file')}")
    return Snippet((_pod(wanted, volume),), tuple(notes))


def _pull(wanted: Wanted) -> Object:
    """Brings the weights, held against their digests. Runs again after any failure, and goes on where it was."""
    return {
        "name": PULL,
        "image": wanted.tool,
        "command": ["registry-pipelines", "weights", "pull", wanted.source, "--to", wanted.path],
        "env": [{"name": "DOCKER_CONFIG", "value": LOGIN}],
        "volumeMounts": [_mount(wanted, writes=True), {"name": "login", "mountPath": LOGIN, "readOnly": True}],
    }


def _login() -> Object:
    items = [{"key": ".dockerconfigjson", "path": "config.json"}]
    return {"name": "login", "secret": {"secretName": "registry-login", "items": items, "optional": True}}


_LOGIN_NOTE = "accounts of the registry: a secret registry-login of type kubernetes.io/dockerconfigjson"


def _init(wanted: Wanted) -> Snippet:
    _need_registry(wanted)
    size = _mib(wanted.size + SPARE_BYTES + len(wanted.files) * BLOCK_BYTES)
    pulls = {**_pull(wanted), "resources": {"requests": {"ephemeral-storage": size}}}
    notes = [
        f"the pod starts when {PULL} has ended well; every new pod brings all of it, from the node's own link",
        _LOGIN_NOTE,
    ]
    return Snippet((_pod(wanted, {"emptyDir": {"sizeLimit": size}}, _login(), init=pulls),), tuple(notes))


def _csi_s3(wanted: Wanted) -> Snippet:
    bucket, prefix = _bucket(wanted, "s3")
    options = ["read-only", *([f"prefix {prefix}"] if prefix else []), *_region(wanted)]
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{wanted.name}-weights"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "mountOptions": options,
            "csi": {
                "driver": "s3.csi.aws.com",
                "volumeHandle": f"{wanted.name}-weights",
                "volumeAttributes": {"bucketName": bucket},
            },
        },
    }
    claim = _claim(wanted, "ReadOnlyMany", "1Gi", storageClassName="", volumeName=f"{wanted.name}-weights")
    notes = (
        "needs the add-on Mountpoint for Amazon S3 CSI driver, whose role may read the bucket; it ignores the capacity",
        "every read asks the bucket: programs that map files read them several times slower than from a disk, and a "
        "cache (`cache` of the driver) helps from the second read on",
    )
    return Snippet((volume, claim, _claimed(wanted)), notes)


def _region(wanted: Wanted) -> list[str]:
    return [f"region {wanted.region}"] if wanted.region else []


def _csi_gcs(wanted: Wanted) -> Snippet:
    bucket, prefix = _bucket(wanted, "gs")
    options = ["implicit-dirs", *([f"only-dir={prefix.rstrip('/')}"] if prefix else [])]
    volume = {
        "csi": {
            "driver": "gcsfuse.csi.storage.gke.io",
            "readOnly": True,
            "volumeAttributes": {"bucketName": bucket, "mountOptions": ",".join(options)},
        }
    }
    pod = _pod(wanted, volume, annotations={"gke-gcsfuse/volumes": "true"})
    pod["spec"]["serviceAccountName"] = wanted.name
    notes = (
        f"needs GKE's Cloud Storage FUSE CSI driver, and the service account {wanted.name} with Storage Object Viewer "
        "on the bucket (Workload Identity Federation)",
        "the driver's sidecar must run as an init container for the guard to see the volume: so it is from GKE 1.29 on",
    )
    return Snippet((pod,), notes)


def _ebs(wanted: Wanted) -> Snippet:
    """A volume of each pod's own, from a snapshot: an EBS volume is attached to one node."""
    parameters = {"type": "gp3", "throughput": "1000", "iops": "4000"}
    fast, request = _class(wanted, "ebs.csi.aws.com", parameters), _gib(wanted.size)
    volume = {
        "ephemeral": {
            "volumeClaimTemplate": {
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": f"{wanted.name}-weights",
                    "dataSource": _from_snapshot(wanted),
                    "resources": {"requests": {"storage": request}},
                }
            }
        }
    }
    notes = (
        *_disk_notes(wanted),
        "a volume from a snapshot fetches what is read for the first time from S3, slowly; fast snapshot restore, or a "
        "volume initialization rate, takes that away for money",
    )
    return Snippet((fast, *_filled(wanted, "ReadWriteOnce", "ebs.csi.aws.com"), _pod(wanted, volume)), notes)


def _pd(wanted: Wanted) -> Snippet:
    """One disk that many nodes read (Hyperdisk ML)."""
    fast = _class(wanted, "pd.csi.storage.gke.io", {"type": "hyperdisk-ml"})
    disk = _claim(
        wanted,
        "ReadOnlyMany",
        _gib(wanted.size),
        storageClassName=f"{wanted.name}-weights",
        dataSource=_from_snapshot(wanted),
    )
    notes = (
        *_disk_notes(wanted),
        "Hyperdisk ML is read by up to 2,500 nodes of one zone, and by machine types that it lists alone",
    )
    filled = _filled(wanted, "ReadWriteOnce", "pd.csi.storage.gke.io")
    return Snippet((fast, *filled, disk, _claimed(wanted)), notes)


def _class(wanted: Wanted, driver: str, parameters: dict[str, str]) -> Object:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": f"{wanted.name}-weights"},
        "provisioner": driver,
        "parameters": parameters,
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def _filled(wanted: Wanted, mode: str, driver: str) -> tuple[Object, ...]:
    """A disk, the job that fills it, and its snapshot."""
    _need_registry(wanted)
    fill, snapshots = f"{wanted.name}-weights-fill", "snapshot.storage.k8s.io/v1"
    disk = _claim(wanted, mode, _gib(wanted.size), name=fill, storageClassName=f"{wanted.name}-weights")
    pod = {
        "restartPolicy": "OnFailure",
        "containers": [_pull(wanted)],
        "volumes": [{"name": VOLUME, "persistentVolumeClaim": {"claimName": fill}}, _login()],
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": fill},
        "spec": {"backoffLimit": 20, "template": {"spec": pod}},
    }
    kind = {
        "apiVersion": snapshots,
        "kind": "VolumeSnapshotClass",
        "metadata": {"name": f"{wanted.name}-weights"},
        "driver": driver,
        "deletionPolicy": "Delete",
    }
    taken = {
        "apiVersion": snapshots,
        "kind": "VolumeSnapshot",
        "metadata": {"name": f"{wanted.name}-weights"},
        "spec": {
            "volumeSnapshotClassName": f"{wanted.name}-weights",
            "source": {"persistentVolumeClaimName": fill},
        },
    }
    return disk, job, kind, taken


def _from_snapshot(wanted: Wanted) -> Object:
    return {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": f"{wanted.name}-weights"}


def _disk_notes(wanted: Wanted) -> tuple[str, ...]:
    fill = f"{wanted.name}-weights-fill"
    return (
        f"apply all but the last VolumeSnapshot and what stands behind it, wait for the job ({fill}: `kubectl wait "
        f"--for=condition=complete job/{fill} --timeout=1h`), then the rest: a snapshot that is taken earlier has no "
        f"{LIST_FILE}, and {GUARD} stops its pods",
        _LOGIN_NOTE,
    )


def _claim(wanted: Wanted, mode: str, size: str, *, name: str = "", **fields: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name or f"{wanted.name}-weights"},
        "spec": {"accessModes": [mode], "resources": {"requests": {"storage": size}}, **fields},
    }


def _claimed(wanted: Wanted) -> Object:
    return _pod(wanted, {"persistentVolumeClaim": {"claimName": f"{wanted.name}-weights", "readOnly": True}})


def _need_registry(wanted: Wanted) -> None:
    if "://" in wanted.source or not wanted.files:
        raise InputError(
            f"the form {wanted.form} brings weights from a registry", where=wanted.source, do="Name them by REF"
        )


def _bucket(wanted: Wanted, scheme: str) -> tuple[str, str]:
    """The bucket and the prefix, which ends with a slash where there is one."""
    match = _BUCKET.fullmatch(wanted.source)
    if match is None or match[1] != scheme:
        raise InputError(
            f"the form {wanted.form} mounts weights of a bucket",
            where=wanted.source,
            do=f"Name {scheme}://BUCKET/PREFIX, where `weights push` or `weights sync` put them",
        )
    prefix = (match[3] or "").strip("/")
    return match[2], f"{prefix}/" if prefix else ""


def _gib(size: int) -> str:
    """A disk's: gp3 gives 4,000 operations a second from 8 GiB on, and Hyperdisk ML begins at 4."""
    return f"{max(8, -int(-size * ROOM // GIB))}Gi"


def _mib(size: int) -> str:
    return f"{max(1, -int(-size * ROOM // (1 << 20)))}Mi"


_FORMS: dict[MountForm, Callable[[Wanted], Snippet]] = {
    "image-volume": _image_volume,
    "init": _init,
    "csi-s3": _csi_s3,
    "csi-gcs": _csi_gcs,
    "ebs": _ebs,
    "pd": _pd,
}

__all__ = ["GUARD", "Snippet", "Wanted", "guard_command", "snippet"]
