"""Others' snapshotters, for images that this product indexed or converted: SOCI's and stargz's.

Rules: soci-snapshotter v0.15's ``docs/config.md``, ``docs/kubernetes.md``, ``docs/registry-authentication.md`` and
``docs/pull-modes.md``; stargz-snapshotter v0.18's ``docs/INSTALL.md`` and ``docs/overview.md``.
"""

from __future__ import annotations

from typing import NamedTuple

from registry_pipelines.node.setup.containerd import cri_1, head, proxy
from registry_pipelines.node.setup.model import HEAD, VERSION_2, Setup, Written

SOCI_SOCKET = "/run/soci-snapshotter-grpc/soci-snapshotter-grpc.sock"


class _Daemon(NamedTuple):
    """What containerd and kubelet are told of one."""

    name: str
    program: str
    root: str

    @property
    def socket(self) -> str:
        """Of its snapshots, and of the image service that it is in front of containerd's."""
        return f"/run/{self.program}/{self.program}.sock"

    @property
    def settings(self) -> str:
        """The file that it reads itself."""
        return f"/etc/{self.program}/config.toml"


_SOCI = _Daemon("soci", "soci-snapshotter-grpc", "/var/lib/soci-snapshotter-grpc")
_STARGZ = _Daemon("stargz", "containerd-stargz-grpc", "/var/lib/containerd-stargz-grpc/snapshotter")

_CRI_2 = """
# All pods of the node, the pause image among them: kubelet knows no snapshotters, and would not pull an image again
# for another.
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "{name}"
  disable_snapshot_annotations = false
"""
_KEYCHAIN = """
# The accounts of pulls: kubelet asks this daemon for images, which asks containerd.
[cri_keychain]
  enable_keychain = true
  image_service_path = "/run/containerd/containerd.sock"
"""
_SOCI_SETTINGS = """\
# {head}
[pull_modes]
  # `stream: {{}}` and `format: soci-v1`: indexes that refer to the image. Off by default since 0.10, without a word
  # where there are such. They are in nobody's digest, so who may push to the repository decides what is read of them.
  [pull_modes.soci_v1]
    enable = true
  [pull_modes.soci_v2]
    enable = true
  # Of images without an index. Else their pull is slower than containerd's own (soci-snapshotter #1843).
  [pull_modes.parallel_pull_unpack]
    experimental_parallel_pull_as_fallback = true
{keychain}"""
_STARGZ_SETTINGS = """\
# {head}
{keychain}"""


def soci(_: Setup) -> Written:
    """Of images with an index by ``stream index`` or ``stream convert --format soci-v2``."""
    notes = [
        "it verifies no signature of an index: let nobody else push to the repository, or serve by `node serve`",
        "it fetches an index and all tables of an image before the first start, and falls back to a full pull on any "
        "error: `remote-snapshot-prepared` in its log says which layers are served lazily",
        "layers of zstd, and those below 10 MiB, have no index and are fetched whole",
    ]
    return _written(_SOCI, _SOCI_SETTINGS, notes)


def stargz(_: Setup) -> Written:
    """Of images converted by ``stream convert --format estargz``."""
    notes = [
        "layers that are not eStargz are pulled as usual; `remote-snapshot-prepared` in its log says which are served",
        "it serves its mounts itself: containers lose their files when it ends, so drain the node before it is "
        "replaced",
    ]
    return _written(_STARGZ, _STARGZ_SETTINGS, notes)


def _written(daemon: _Daemon, settings: str, more: list[str]) -> Written:
    plugin = proxy(daemon.name, daemon.socket, daemon.root)
    cri = _CRI_2.format(name=daemon.name)
    files = {
        f"containerd-2/{daemon.name}.toml": (head(3) + plugin + cri).encode(),
        f"{VERSION_2}/{daemon.name}.toml": (head(2) + plugin + cri).encode(),
        f"containerd-1/{daemon.name}.toml": (head(2) + plugin).encode(),
        "containerd-1/cri.toml": cri_1(daemon.name),
        f"{daemon.name}-config.toml": settings.format(head=HEAD, keychain=_KEYCHAIN).encode(),
    }
    notes = [
        f"{daemon.name}-config.toml is {daemon.settings}; start {daemon.program} before containerd",
        f"containerd 2: containerd-2/{daemon.name}.toml into a folder that `imports` of its config.toml names, but "
        f"{VERSION_2}/{daemon.name}.toml where that says `version = 2`, for else all that it says of CRI is dropped; "
        f"1.6 and 1.7: containerd-1/{daemon.name}.toml there, and for pods what cri.toml says",
        f"kubelet: imageServiceEndpoint: unix://{daemon.socket}, without which private images are not found",
        "before the node has its first pod: images that were pulled by another snapshotter are not pulled again for it",
        *more,
    ]
    return Written(files, notes)
