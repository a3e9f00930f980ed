"""Which images of containerd's a container may be of, told by the layer that it stands on.

containerd keeps everything as content with labels, by which it knows what is still needed (its
``docs/garbage-collection.md``): a config names the topmost layer it was unpacked to, a manifest its config, an index
its manifests. From the layer upwards they lead to what the names of images stand for. Services
``containerd.services.content.v1`` and ``containerd.services.images.v1`` (``api/services``), alike in 1.6 and 2.x.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from registry_pipelines.node.judging import Layer, Named
from registry_pipelines.node.messages import classes

TIMEOUT_S = 5.0
"""It is asked while it waits for us: a start must not hang on that."""
HOST = Path("/proc/1/root")
"""Of a pod that sees the host's processes: what is the host's, and not mounted in it. A mount of the socket's folder
would hold what containerd mounts there, and one of the socket would be that of a containerd which has ended."""
MOST_MANIFESTS = 32
"""Of an index: whose labels are looked at."""
_CONTENT, _IMAGES = "containerd.services.content.v1", "containerd.services.images.v1"
_classes = classes(
    {
        "containerd.types": {
            "Descriptor": (("media_type", 1, "string"), ("digest", 2, "string"), ("size", 3, "int64"))
        },
        _CONTENT: {
            "Info": (("digest", 1, "string"), ("size", 2, "int64"), ("labels", 5, "map")),
            "ListContentRequest": (("filters", 1, "*string"),),
            "ListContentResponse": (("info", 1, f"*.{_CONTENT}.Info"),),
        },
        _IMAGES: {
            "Image": (("name", 1, "string"), ("target", 3, ".containerd.types.Descriptor")),
            "ListImagesRequest": (("filters", 1, "*string"),),
            "ListImagesResponse": (("images", 1, f"*.{_IMAGES}.Image"),),
        },
    }
)


class Containerd:
    """Asked over its socket. For many threads."""

    def __init__(self, socket: Path, *, timeout_s: float = TIMEOUT_S, host: Path = HOST) -> None:
        """No question yet: it may start after this program. host: below which the socket is where it is not here."""
        self._socket, self._timeout_s, self._host = socket, timeout_s, host

    def images(self, layer: Layer) -> Sequence[Named] | None:
        """See ``gate.Runtime``."""
        import grpc

        socket = self._socket if self._socket.exists() else self._host / self._socket.relative_to("/")
        try:
            with grpc.insecure_channel(f"unix://{socket}") as channel:
                return _found(channel, layer, self._timeout_s)
        except grpc.RpcError:
            return None


def _found(channel: Any, layer: Layer, timeout_s: float) -> list[Named]:
    told = {"timeout": timeout_s, "metadata": (("containerd-namespace", layer.namespace),)}

    def labelled(names: Iterable[str], digests: Iterable[str]) -> list[str]:
        wanted = list(digests)
        filters = [f'labels."{name}"=="{digest}"' for name in names for digest in wanted]
        if not filters:
            return []
        request = _classes(f"{_CONTENT}.ListContentRequest")(filters=filters)
        answers = channel.unary_stream(
            f"/{_CONTENT}.Content/List",
            request_serializer=type(request).SerializeToString,
            response_deserializer=_classes(f"{_CONTENT}.ListContentResponse").FromString,
        )(request, **told)
        return [info.digest for answer in answers for info in answer.info]

    configs = labelled([f"containerd.io/gc.ref.snapshot.{layer.snapshotter}"], [layer.chain_id])
    manifests = labelled(["containerd.io/gc.ref.content.config"], configs)
    indexes = labelled([f"containerd.io/gc.ref.content.m.{number}" for number in range(MOST_MANIFESTS)], manifests)
    tops = {*manifests, *indexes}
    if not tops:
        return []
    request = _classes(f"{_IMAGES}.ListImagesRequest")(filters=[f'target.digest=="{each}"' for each in sorted(tops)])
    answer = channel.unary_unary(
        f"/{_IMAGES}.Images/List",
        request_serializer=type(request).SerializeToString,
        response_deserializer=_classes(f"{_IMAGES}.ListImagesResponse").FromString,
    )(request, **told)
    return [
        Named(f"{image.name.partition('@')[0]}@{image.target.digest}", image.target.digest)
        for image in answer.images
        if image.target.digest in tops and not image.name.startswith("sha256:")  # CRI's, of the config's digest
    ]


__all__ = ["Containerd"]
