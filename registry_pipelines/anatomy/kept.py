"""Classes of layers, kept when an image's anatomy was made: a small file for each layer, for reports about money.

A layer's files may be of other packages in another image; the anatomy that was made last counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec

from registry_pipelines.anatomy.report import LayerPart
from registry_pipelines.errors import DigestInvalid
from registry_pipelines.oci.behind import behind
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors, write_file

MAX_FILE_BYTES = 64 * 1024
_KIND = "anatomy/v1/classes"
MAX_LAYERS = 200_000
"""Files that are looked at."""


def _folder(state: Path) -> Path:
    return state / "anatomy" / "classes"


def keep_classes(state: Path, layers: Iterable[LayerPart]) -> None:
    """Keep what is known of layers: class to unpacked bytes. Raises LocalError, DiskFull."""
    folder = _folder(state)
    with local_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for layer in layers:
            if layer.classes and not layer.problem:
                path = folder / f"{layer.digest.replace(':', '-')}.json"
                content = msgspec.json.encode(layer.classes)
                if not path.exists() or path.read_bytes() != content:
                    write_file(path, content, lasting=False)
                    behind(state).keep_value(_KIND, str(layer.digest), content)


def kept_classes(state: Path) -> Iterator[tuple[Digest, Mapping[str, float]]]:
    """Layers, each with the part of its bytes that is of each class: by unpacked bytes, which is an estimate of stored
    ones. What cannot be read is left out, as if nobody had looked."""
    seen = set[str]()
    for name, read in islice(_kept(state), MAX_LAYERS):
        try:
            digest = Digest.parse(name)
            sizes = msgspec.json.decode(read(), type=ready(dict[str, int]))
        except (OSError, DigestInvalid, msgspec.MsgspecError, RecursionError):
            continue
        known = {name: size for name, size in sizes.items() if size > 0}
        if (total := sum(known.values())) and name not in seen:
            seen.add(name)
            yield digest, {name: size / total for name, size in known.items()}


def _kept(state: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Names of layers and what reads their classes: this machine's first, then what others keep."""
    for path in sorted(_folder(state).glob("*.json")):
        yield path.stem.replace("-", ":", 1), partial(_read, path)
    for name, content in behind(state).values(_KIND):
        yield name, partial(bytes, content)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES)
