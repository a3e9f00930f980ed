"""How the agent of a node is started, and what a form gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from registry_pipelines.errors import InputError
from registry_pipelines.node.hosts_files import FOLDER as HOSTS
from registry_pipelines.node.sizing import NodeDisk
from registry_pipelines.node.where import ROOT, SOCKET
from registry_pipelines.oci.files import local_errors

NAME = "registry-pipelines"
"""Of the snapshotter, the runtime of containerd and the RuntimeClass that use it, the unit and the DaemonSet."""
VERSION_2 = "containerd-2-version-2"
"""Folder of what containerd 2 is told where its own configuration has version 2."""
STATE = Path("/var/lib")
"""Where the agent keeps what it has: in a folder of its own there, which nothing that cleans up looks into."""
ENDED_S = 30
"""Seconds that the agent has to end."""
CONFIG_NAME = "registry-pipelines.yaml"
"""Of the configuration, where it is brought to another machine."""
HEAD = "Written by `registry-pipelines node setup`; no account is in it."


@dataclass(frozen=True)
class Setup:
    """How the agent is started, the same in all forms. Paths are absolute."""

    program: Path
    socket: Path = SOCKET
    root: Path = ROOT
    config: Path | None = None
    """Of the agent; None for none."""
    state: Path | None = None
    """Its state folder on the node, where ``config`` says one."""
    hosts: tuple[Path, ...] = (HOSTS,)
    """Folders on the node whose ``hosts.toml`` files it follows."""
    keys: tuple[Path, ...] = ()
    """Public keys that the agent believes; those of the configuration unless told."""
    image: str = ""
    """The product's own, for ``kubernetes``."""
    disk: NodeDisk | None = None
    """Of the runtime, computed; None writes no size and no threshold."""

    @property
    def arguments(self) -> list[str]:
        """Behind the program, without ``config`` and ``keys``: where those are depends on the form."""
        return ["node", "serve", "--socket", str(self.socket), "--root", str(self.root)]

    @property
    def on_host(self) -> list[str]:
        """Behind the program, where it runs on the machine that has the files."""
        keys = [word for key in self.keys for word in ("--key", str(key))]
        return [*self.arguments, *(["--config", str(self.config)] if self.config else []), *keys]

    def with_files_in(self, folder: str) -> list[str]:
        """Likewise, where what :func:`carried` gives lies in a folder."""
        config = ["--config", f"{folder}/{CONFIG_NAME}"] if self.config else []
        return [*self.arguments, *config, *(word for key in self.keys for word in ("--key", f"{folder}/{key.name}"))]


def carried(setup: Setup) -> dict[str, str]:
    """The configuration and the keys, by the name that they have on another machine. Raises LocalError, and InputError
    for what may not go there: a private key, a configuration whose state folder would not be the machine's."""
    files = {CONFIG_NAME: setup.config} if setup.config else {}
    for key in setup.keys:
        if key.name in files:
            raise InputError("two files have one name", where=key.name, do="Rename one of the keys")
        files[key.name] = key
    if setup.config is not None and (setup.state is None or setup.state.is_relative_to(setup.config.parent)):
        raise InputError(
            "the state folder of the configuration is beside it, and has no place on another machine",
            where=str(setup.config),
            do=f"Write `state: {STATE / NAME}` there: layers that were fetched are kept in it",
        )
    return {name: _public_text(path) for name, path in files.items()}


def _public_text(path: Path) -> str:
    with local_errors(path):
        content = path.read_bytes()
    if b"PRIVATE KEY" in content:
        raise InputError(
            "a private key has no place on a node",
            where=str(path),
            do="Name the public one: `openssl pkey -pubout` writes it",
        )
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InputError("is no text in UTF-8", where=str(path)) from None


class Written(NamedTuple):
    """files: content by path. notes: what is to be done with them, and what they cannot do."""

    files: dict[str, bytes]
    notes: list[str]
