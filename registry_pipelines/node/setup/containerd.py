"""containerd 1.6 to 2.x: a proxy plugin, and what CRI is told.

Rules: containerd's ``docs/PLUGINS.md`` ("Proxy Plugins"), ``docs/cri/config.md`` and ``docs/remote-snapshotter.md``.
"""

from __future__ import annotations

import json
from pathlib import Path

from registry_pipelines.node.setup.model import HEAD, NAME, VERSION_2, Setup, Written

_PLUGIN = """\
[proxy_plugins.{name}]
  type = "snapshot"
  address = {socket}
{more}  [proxy_plugins.{name}.exports]
    enable_remote_snapshot_annotations = "true"
    # By it kubelet finds the disk that images fill, where this is the snapshotter of all pods (containerd 1.7.16).
    root = {root}
"""
_CRI_2 = """
# Pulls say which image a layer is of.
[plugins."io.containerd.cri.v1.images"]
  disable_snapshot_annotations = false
  # An image that the node has for other pods is not pulled again for ours, but unpacked from its layers.
  discard_unpacked_layers = false
  [plugins."io.containerd.cri.v1.images".runtime_platforms.{name}]
    snapshotter = "{name}"

# Only pods of this runtime depend on the agent.
[plugins."{cri}".containerd.runtimes.{name}]
  runtime_type = "io.containerd.runc.v2"
  snapshotter = "{name}"
{unpack}"""
_RUNTIME_3, _RUNTIME_2 = "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"
"""CRI's section in a configuration of version 3, and of 2."""
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


def plugin_2(setup: Setup, *, cri: str = _RUNTIME_3) -> str:
    """What containerd 2 is told, without its version: also for platforms that take it into their own. cri: the section
    in which pods' runtimes are."""
    unpack = "# `ctr` and Docker pull for either; a list in another file would replace this one.\n" + "\n".join(
        _UNPACK.format(architecture=architecture, snapshotter=snapshotter).strip("\n") + "\n"
        for architecture in ("amd64", "arm64")
        for snapshotter in ("overlayfs", NAME)
    )
    return _plugin(setup) + _CRI_2.format(name=NAME, cri=cri, unpack=f"\n{unpack}")


def _plugin(setup: Setup) -> str:
    return proxy(NAME, setup.socket, setup.root, more='  capabilities = ["remap-ids"]\n')


def proxy(name: str, socket: str | Path, root: str | Path, *, more: str = "") -> str:
    """The section of a proxy snapshotter. more: further lines of it."""
    return _PLUGIN.format(name=name, socket=_quoted(socket), root=_quoted(root), more=more)


def head(version: int) -> str:
    """What a file begins with. version: of containerd's configuration."""
    return f"# {HEAD}\nversion = {version}\n\n"


def cri_1(name: str) -> bytes:
    """What a person adds to the configuration of 1.x, so that a snapshotter is that of all pods."""
    return _CRI_1.format(head=HEAD, name=name).encode()


def _quoted(path: str | Path) -> str:
    """As a string of TOML, which writes as JSON does what stands in a path."""
    return json.dumps(str(path), ensure_ascii=False)


def containerd(setup: Setup) -> Written:
    """A file for each of the two generations, and what 1.x takes by hand only. containerd 2 drops all that a
    configuration of version 2 says of CRI as soon as a file beside it has version 3, or its runtimes in the section of
    version 3 (2.1.9): so there are two for it."""
    files = {
        f"containerd-2/{NAME}.toml": (head(3) + plugin_2(setup)).encode(),
        f"{VERSION_2}/{NAME}.toml": (head(2) + plugin_2(setup, cri=_RUNTIME_2)).encode(),
        f"containerd-1/{NAME}.toml": (head(2) + _plugin(setup)).encode(),
        "containerd-1/cri.toml": cri_1(NAME),
    }
    folder = "/etc/containerd/conf.d"
    notes = [
        f"containerd 2: containerd-2/{NAME}.toml into {folder}, but {VERSION_2}/{NAME}.toml where config.toml says "
        "`version = 2`, for else its runtimes, registries and pause image count no more; 1.6 and 1.7: "
        f"containerd-1/{NAME}.toml there, and for pods what cri.toml says",
        f'name that folder in /etc/containerd/config.toml, above its first section: imports = ["{folder}/*.toml"]; '
        "restart containerd once, running containers stay",
        "a list `unpack_config` of your own in config.toml does not count beside ours: move its entries there",
        f"below a kubelet with 1.6 or 1.7, which tell it of a folder that nobody makes: `ln -s {setup.root} "
        f"/var/lib/containerd/io.containerd.snapshotter.v1.{NAME}`",
    ]
    return Written(files, notes)
