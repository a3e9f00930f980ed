"""What the snapshotter asks of whoever serves images before they are fetched.

A layer has the name that containerd gives its snapshot, its *chain ID* (OCI image specification, "Layer ChainID"): that
of the layer and of all below it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

REF_LABEL = "containerd.io/snapshot.ref"
"""On a snapshot that is to become a layer: its chain ID (containerd, ``core/snapshots``)."""
IMAGE_LABEL = "containerd.io/snapshot/cri.image-ref"
MANIFEST_LABEL = "containerd.io/snapshot/cri.manifest-digest"
LAYER_LABEL = "containerd.io/snapshot/cri.layer-digest"
LAYERS_LABEL = "containerd.io/snapshot/cri.image-layers"
"""Of the image that is being pulled, where annotations are on (containerd, ``pkg/snapshotters``): its reference, the
digest of its manifest for this platform, that of the layer, and those of the layer and the ones above it, with commas
between them, as many as a label holds."""


def becomes(key: str, chain_id: str) -> bool:
    """Whether a snapshot with this key is to become the layer that its label names. Who unpacks calls it ``WORD
    CHAIN_ID`` (containerd, UnpackKeyFormat; BuildKit). A pod's own snapshot, whose name has no space, gets labels from
    the pod's annotations, which whoever makes the pod writes: an image that it may not pull would be there, read with
    this node's account, for any other image that claims the same layers."""
    return key.endswith(f" {chain_id}")


class LazyImage(Protocol):
    """An image that can be served before it is fetched."""

    @property
    def name(self) -> str:
        """For people, and the same for the same image: reference and digest of its manifest."""
        ...

    @property
    def layers(self) -> Sequence[str]:
        """Chain IDs of the layers that are served, lowest first: all of the image's, or without a gap its lowest."""
        ...

    def mount(self, chain_id: str) -> Path:
        """A folder with one read-only tree of the layer and all below it, until ``LazyImages.release``.

        The same one when it is asked for again, and mounted again where it was lost. Raises RegistryPipelinesError;
        NotFound for a chain ID that ``layers`` has not.
        """
        ...


class LazyImages(Protocol):
    """All of them. Called by many threads at once."""

    def find(self, labels: Mapping[str, str], chain_id: str) -> LazyImage | None:
        """The image that serves a layer; None where none does, or where why not was said: then it is pulled as usual.

        labels: as containerd gave them with the layer, which are kept with its snapshot, so that it is found again
        with the same ones after a restart, also without the registry. Without annotations there is the chain ID alone.
        Never raises for what an image or a registry does.
        """
        ...

    def release(self, image: str) -> None:
        """No snapshot is made of an image any more (``LazyImage.name``), also of one that was not asked for since the
        start of this process: what is mounted and kept of it can go. Nothing is opened or asked for it."""
        ...

    def retain(self, images: Collection[str]) -> None:
        """At the start: :meth:`release` for all but these, of which snapshots are made; the process before was killed
        while it removed others."""
        ...

    def drain(self, *, wanted: bool, done: bool) -> None:
        """wanted: what is mounted is fetched whole, also where nobody reads it; else as before. done: nobody uses any
        of it, so it is unmounted at the end of the process. Called again and again (``draining``)."""
        ...

    def usage(self, image: str, chain_id: str) -> tuple[int, int]:
        """Bytes on the disk and inodes of what is here of a layer that an image serves (``LazyImage.name``): what was
        fetched, and what is kept beside it. Nothing is opened or asked for it; 0, 0 where nothing is here."""
        ...
