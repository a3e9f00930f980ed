"""What a FUSE server shows to the kernel: a tree of nodes, and their content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Node(Protocol):
    """One file, directory or other thing of a tree."""

    @property
    def mode(self) -> int:
        """Kind and rights, as ``st_mode``."""
        ...

    @property
    def uid(self) -> int: ...  # noqa: D102
    @property
    def gid(self) -> int: ...  # noqa: D102
    @property
    def mtime_ns(self) -> int:
        """Nanoseconds since 1970."""
        ...

    @property
    def rdev(self) -> int:
        """Of a device, as ``st_rdev``."""
        ...

    @property
    def nlink(self) -> int: ...  # noqa: D102
    @property
    def size(self) -> int:
        """Bytes of a file's content."""
        ...

    @property
    def target(self) -> bytes:
        """Of a symbolic link."""
        ...

    @property
    def xattrs(self) -> Mapping[bytes, bytes]:
        """Extended attributes by full name."""
        ...


class Served(Protocol):
    """A tree and its content. Nodes are numbers; the top is 1 (``FUSE_ROOT_ID``)."""

    @property
    def nodes(self) -> int:
        """How many there are."""
        ...

    @property
    def content_bytes(self) -> int:
        """Of all content, for `df`."""
        ...

    @property
    def any_xattrs(self) -> bool:
        """Whether any node has extended attributes."""
        ...

    def node(self, number: int) -> Node:
        """Raises LookupError."""
        ...

    def lookup(self, directory: int, name: bytes) -> int | None:
        """The number of what stands under a name; None for nothing."""
        ...

    def children(self, directory: int) -> Sequence[tuple[bytes, int]]:
        """Names and numbers in a directory, without ``.`` and ``..``; always in the same order."""
        ...

    def parent(self, directory: int) -> int:
        """The directory above; the top's is itself."""
        ...

    def view(self, number: int, offset: int, size: int) -> memoryview | None:
        """Content of a file that is here and verified; None: it has to be read. Within the file."""
        ...

    def read(self, number: int, offset: int, size: int) -> bytes:
        """The same, fetched first; waits. Raises the RegistryPipelinesError family."""
        ...

    def soon(self, number: int, offset: int, size: int) -> None:
        """Content that is here, or not, will be read next. Never waits."""
        ...


__all__ = ["Node", "Served"]
