"""containerd: which one answers, whether it knows the agent as a snapshotter, and how it was told.

Its own socket says what it runs with: services ``containerd.services.version.v1`` and
``containerd.services.introspection.v1`` (``api/services``), alike in 1.6 and 2.x. Settings that no service tells are
read from ``containerd config dump``, which says what its file comes to; a daemon that was started before the file was
changed runs with another, so what both say is taken from the socket.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any, NamedTuple

from registry_pipelines.node.examining.model import Finding, failed, note, well
from registry_pipelines.node.messages import classes
from registry_pipelines.threads import run_child

TIMEOUT_S = 10.0
MAX_DUMP_BYTES = 4 << 20
CONFIG = Path("/etc/containerd/config.toml")
"""Its own default."""
_PEER = struct.Struct("iII")
"""unix(7), SO_PEERCRED: process, user, group."""
OLDEST, NEWEST_TRIED = (1, 6), (2, 2)
"""Of containerd, by which all this was tried."""
_VERSION, _PLUGINS = "containerd.services.version.v1", "containerd.services.introspection.v1"
_SNAPSHOTTER = "io.containerd.snapshotter.v1"
_CRI_2 = "io.containerd.grpc.v1.cri"
_ANNOTATIONS = "enable_remote_snapshot_annotations"
_SETUP = "Take the files of `node setup containerd`, and start containerd again"
_classes = classes(
    {
        "google.rpc": {"Status": (("code", 1, "int32"), ("message", 2, "string"))},
        _VERSION: {"VersionResponse": (("version", 1, "string"), ("revision", 2, "string"))},
        _PLUGINS: {
            "Plugin": (
                ("type", 1, "string"),
                ("id", 2, "string"),
                ("exports", 5, "map"),
                ("capabilities", 6, "*string"),
                ("init_err", 7, ".google.rpc.Status"),
            ),
            "PluginsRequest": (("filters", 1, "*string"),),
            "PluginsResponse": (("plugins", 1, f"*.{_PLUGINS}.Plugin"),),
        },
    }
)


class Runtime(NamedTuple):
    """What a containerd says of itself. plugins: its snapshotters."""

    version: str
    plugins: tuple[Any, ...]

    @property
    def numbers(self) -> tuple[int, int] | None:
        """Of its version; None where it has none (built from a branch)."""
        found = re.match(r"v?([0-9]{1,3})\.([0-9]{1,4})", self.version)
        return (int(found[1]), int(found[2])) if found else None


def ask(socket_path: Path) -> Runtime:
    """Of a containerd that runs. Raises grpc.RpcError."""
    import grpc

    with grpc.insecure_channel(f"unix://{socket_path}") as channel:

        def call(method: str, request: Any, answer: str) -> Any:
            made = channel.unary_unary(
                method,
                request_serializer=type(request).SerializeToString,
                response_deserializer=_classes(answer).FromString,
            )
            return made(request, timeout=TIMEOUT_S)

        version = call(
            f"/{_VERSION}.Version/Version", _classes("google.protobuf.Empty")(), f"{_VERSION}.VersionResponse"
        )
        wanted = _classes(f"{_PLUGINS}.PluginsRequest")(filters=[f"type=={_SNAPSHOTTER}"])
        plugins = call(f"/{_PLUGINS}.Introspection/Plugins", wanted, f"{_PLUGINS}.PluginsResponse")
    return Runtime(version.version, tuple(plugins.plugins))


class Daemon(NamedTuple):
    """The process behind a socket. program: empty where it cannot be seen (another's pod)."""

    program: str
    config: Path | None


def daemon_of(socket_path: Path) -> Daemon:
    """Whose program says what its configuration comes to: another version of it drops what it does not know. config:
    as it was started with; None where its command line names none."""
    with socket.socket(socket.AF_UNIX) as asked, suppress(OSError):
        asked.settimeout(TIMEOUT_S)
        asked.connect(str(socket_path))
        pid, _, _ = _PEER.unpack(asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
        if pid > 0 and "containerd" in Path(f"/proc/{pid}/exe").readlink().name:
            named = _config_of(words)
            # As it sees it: it was started elsewhere than this command.
            return Daemon(f"/proc/{pid}/exe", Path(f"/proc/{pid}/cwd").readlink() / named if named else None)
    return Daemon("", None)


def _config_of(words: list[str]) -> Path | None:
    for number, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in ("--config", "-config", "-c"):
            value = value if equals else "".join(words[number + 1 : number + 2])
            return Path(value) if value else None
    return None


def examine_runtime(asked: Path, agent: Path, config: Path | None) -> Iterator[Finding]:
    """asked: containerd's socket. agent: the agent's. config: containerd's file; the one that it was started with
    unless told."""
    try:
        import grpc
    except ImportError:
        yield failed("containerd", "grpcio is not installed", do="pip install 'registry-pipelines[node]'")
        return
    try:
        found = ask(asked)
    except grpc.RpcError as error:
        said = error.details() if isinstance(error, grpc.Call) else str(error)
        yield failed(
            "containerd", f"it does not answer: {said}", where=str(asked), do="Start it, or name it with --containerd"
        )
        return
    yield _known(found, asked)
    ours = [each for each in found.plugins if each.exports.get("address") == str(agent)]
    if not ours:
        yield failed(
            "snapshotter",
            "containerd has no snapshotter with the agent's socket; it has " + ", ".join(p.id for p in found.plugins),
            where=str(agent),
            do=_SETUP,
        )
    for each in ours:
        yield from examine_plugin(each, found.numbers)
    daemon = daemon_of(asked)
    yield from _settings(daemon.program, config or daemon.config or CONFIG, {each.id for each in ours}, found.numbers)


def _known(found: Runtime, socket: Path) -> Finding:
    numbers = found.numbers
    if numbers is None:
        return note("containerd", f"its version {found.version!r} says nothing; it is taken for a new one")
    if numbers < OLDEST:
        return failed(
            "containerd", f"{found.version} is older than 1.6", where=str(socket), do="Install 1.6 or newer, best 2.x"
        )
    if numbers > NEWEST_TRIED:
        return note("containerd", f"{found.version} is newer than all that this was tried with", where=str(socket))
    return well("containerd", found.version, str(socket))


def examine_plugin(plugin: Any, numbers: tuple[int, int] | None) -> Iterator[Finding]:
    """A snapshotter that is the agent, as containerd has it. numbers: of its version."""
    about = f"snapshotter {plugin.id}"
    if plugin.init_err.code:
        yield failed(about, f"containerd could not begin it: {plugin.init_err.message}", do=_SETUP)
        return
    if numbers is not None and numbers < (2, 0) and not plugin.capabilities and _ANNOTATIONS not in plugin.exports:
        # Nothing in a file would mend it: they are read from 1.7.16 on.
        yield well(about, "containerd knows the agent; this version serves images to pods alone, and `ctr` pulls whole")
        return
    whole = True
    if "rebase" in plugin.capabilities:
        whole = False
        yield failed(
            about,
            "it has the capability `rebase`, with which containers start without the layers below",
            do='Leave `capabilities = ["remap-ids"]`',
        )
    if "remap-ids" not in plugin.capabilities:
        whole = False
        yield note(
            about,
            "without the capability `remap-ids` a pod with users of its own copies its whole image",
            do='Write `capabilities = ["remap-ids"]`',
        )
    if plugin.exports.get(_ANNOTATIONS) != "true":
        whole = False
        yield note(
            about,
            "pulls of `ctr` and Docker do not say which image a layer is of, so only images that are announced are "
            "served",
            do=f'Write `{_ANNOTATIONS} = "true"` below its exports',
        )
    if not plugin.exports.get("root"):
        yield note(about, "kubelet does not know the disk that images fill", do="Write `root` below its exports")
    elif whole:
        yield well(about, "containerd knows the agent, and says which image a layer is of")


def _settings(program: str, config: Path, names: set[str], numbers: tuple[int, int] | None) -> Iterator[Finding]:
    if not names:
        return
    if not program:
        yield note(
            "configuration", "its process cannot be seen here, and so not what its file comes to", where=str(config)
        )
        return
    try:
        ran = run_child([program, "--config", str(config), "config", "dump"], timeout_s=TIMEOUT_S)
        told = tomllib.loads(ran.stdout[:MAX_DUMP_BYTES].decode())
    except (OSError, TimeoutExpired, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        yield note("configuration", f"`containerd config dump` does not say: {error}", where=str(config))
        return
    if ran.returncode:
        said = ran.stderr.decode(errors="replace").strip()[-300:]
        yield failed("configuration", f"containerd does not take its file: {said}", where=str(config), do="Mend it")
        return
    yield from read_warnings(ran.stderr.decode(errors="replace"), str(config))
    yield from read_settings(told, names, numbers, str(config))


def read_warnings(said: str, where: str) -> Iterator[Finding]:
    """What containerd 2 says with ``config dump`` when it drops CRI's settings of a file of version 2, for another one
    beside it has version 3 or that version's section of runtimes (2.1.9)."""
    if any("Ignoring unknown key" in line and f"plugin={_CRI_2}" in line for line in said.splitlines()):
        yield failed(
            "configuration",
            "containerd drops what a file of version 2 says of CRI, runtimes and registries among it, for another one "
            "is made for version 3",
            where=where,
            do="Give it and all files of its `imports` one version (`node setup containerd` writes ours for either, "
            "`containerd config migrate` makes 3 of 2), and restart containerd",
        )


def read_settings(
    told: Mapping[str, Any], names: set[str], numbers: tuple[int, int] | None, where: str
) -> Iterator[Finding]:
    """Settings of a configuration that keep pulls from being lazy. names: of the snapshotters that are the agent."""
    plugins = told.get("plugins")
    sections: Mapping[str, Any] = plugins if isinstance(plugins, Mapping) else {}

    def section(*path: str) -> Mapping[str, Any]:
        found: Any = sections
        for each in path:
            found = found.get(each) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    old = section(_CRI_2, "containerd")
    new, runtime = section("io.containerd.cri.v1.images"), section("io.containerd.cri.v1.runtime", "containerd")
    cri = new or old
    if cri:
        used = [cri.get("snapshotter"), *_snapshotters(runtime or old)]
        if not any(each in names for each in used if isinstance(each, str)):
            yield note(
                "configuration",
                "no pod uses the agent: CRI and its runtimes name other snapshotters",
                where=where,
                do="Take CRI's part of what `node setup containerd` writes, too, where pods are to use it",
            )
        elif cri.get("disable_snapshot_annotations", True):
            yield failed(
                "configuration",
                "CRI does not say which image a layer is of (disable_snapshot_annotations), so pods' images are served "
                "only when they are announced",
                where=where,
                do="Set `disable_snapshot_annotations = false` in CRI's section, or start the agent with --announce",
            )
        else:
            yield well("configuration", "CRI says which image a layer is of", where)
        if cri.get("discard_unpacked_layers"):
            yield note(
                "configuration",
                "discard_unpacked_layers: layers that are pulled as usual cannot be pushed or exported from here",
                where=where,
            )
    transfer = section("io.containerd.transfer.v1.local").get("unpack_config")
    if numbers is not None and numbers >= (2, 0):
        rows = transfer if isinstance(transfer, list) else []
        if not any(str(each.get("snapshotter")) in names for each in rows if isinstance(each, Mapping)):
            yield failed(
                "configuration",
                "the transfer service unpacks for other snapshotters alone, so `ctr` and Docker pull whole",
                where=where,
                do=f'Add an `unpack_config` with `snapshotter = {json.dumps(min(names))}` and `differ = "walking"`',
            )


def _snapshotters(containerd: Mapping[str, Any]) -> Iterator[Any]:
    """Of the runtimes of CRI."""
    runtimes = containerd.get("runtimes")
    for each in runtimes.values() if isinstance(runtimes, Mapping) else ():
        if isinstance(each, Mapping):
            yield each.get("snapshotter")


__all__ = ["Runtime", "ask", "examine_plugin", "examine_runtime", "read_settings", "read_warnings"]
