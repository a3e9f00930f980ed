"""containerd of a drill's own, asked by ``ctr`` or as a kubelet asks it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry_pipelines.recover.failover.drill import processes
from registry_pipelines.recover.failover.drill.kinds import Kind
from registry_pipelines.recover.failover.drill.model import Form, PullFailed, Running, Waited

CONFIG = """\
version = 2
root = "{data}/root"
state = "{sockets}/state"
disabled_plugins = {disabled}
[grpc]
address = "{sockets}/grpc.sock"
[ttrpc]
address = "{sockets}/ttrpc.sock"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{data}/hosts"
"""
"""containerd 2 reads this form, too, and moves the CRI's section to where it has it now."""
CRI = "io.containerd.grpc.v1.cri"
_PULL = "/runtime.v1.ImageService/PullImage"


@dataclass(frozen=True)
class Containerd:
    """A containerd that is installed; see ``Client``. kind: CONTAINERD or KUBELET."""

    program: Path
    ctr: Path
    version: str
    kind: Kind
    form: Form = "hosts-toml"

    @contextmanager
    def started(self, folder: Path, sockets: Path) -> Iterator[Running]:
        """See Client."""
        disabled = "[]" if self.kind is Kind.KUBELET else f'["{CRI}"]'
        config = folder / "config.toml"
        config.write_text(CONFIG.format(data=folder, sockets=sockets, disabled=disabled))
        env = processes.beside(self.program)
        ctr = [str(self.ctr), "--address", str(sockets / "grpc.sock")]
        command = [str(self.program), "--config", str(config)]
        with processes.daemon(command, folder / "log", [*ctr, "version"], env):
            yield _Kubelet(folder, sockets / "grpc.sock") if self.kind is Kind.KUBELET else _Ctr(folder, ctr, env)


class _Ordered:
    """Reads ``hosts.toml`` at each pull."""

    def __init__(self, folder: Path) -> None:
        self._hosts = folder / "hosts"

    def order(self, files: Mapping[str, bytes]) -> None:
        """See Running."""
        for name, content in files.items():
            path = self._hosts / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


class _Ctr(_Ordered):
    def __init__(self, folder: Path, ctr: Sequence[str], env: dict[str, str]) -> None:
        super().__init__(folder)
        self._ctr, self._env = ctr, env

    def pull(self, reference: str, limit_s: float) -> None:
        """See Running."""
        command = [*self._ctr, "images", "pull", "--hosts-dir", str(self._hosts), reference]
        processes.pull(command, limit_s, self._env)


class _Kubelet(_Ordered):
    """Speaks CRI (kubernetes/cri-api, ``runtime/v1/api.proto``: PullImageRequest 1 image, ImageSpec 1 image)."""

    def __init__(self, folder: Path, socket: Path) -> None:
        super().__init__(folder)
        self._socket = socket

    def pull(self, reference: str, limit_s: float) -> None:
        """See Running."""
        import grpc  # an extra; whoever found this client has it

        channel = grpc.insecure_channel(f"unix://{self._socket}")
        try:
            # Without a deadline, as a kubelet asks: containerd would tell of one as an error of its own.
            pulling: Any = channel.unary_unary(_PULL).future(_field(_field(reference.encode())), wait_for_ready=True)
            try:
                pulling.result(timeout=limit_s)
            except grpc.FutureTimeoutError as error:
                pulling.cancel()
                raise Waited from error
        except grpc.RpcError as error:
            raise PullFailed(processes.last_words(str(error.details()).encode())) from error
        finally:
            channel.close()


def _field(content: bytes) -> bytes:
    """Field 1 of a message, with a length (Protocol Buffers, "Encoding")."""
    length, head = len(content), bytearray(b"\x0a")
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*head, length]) + content


__all__ = ["CRI", "Containerd"]
