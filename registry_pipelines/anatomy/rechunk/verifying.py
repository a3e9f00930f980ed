"""Hold an image that was rechunked against what it was made of: both are read again, and nothing remembered is used.

The record says what to compare; whoever signed it is not believed here. A file that the record says was left out must
be one of those that its options leave out, by the same rule as then.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import msgspec

from registry_pipelines.anatomy.owning import Owners
from registry_pipelines.anatomy.reading import ReadLayer, read_layers
from registry_pipelines.anatomy.rechunk.merged import Merged, merge
from registry_pipelines.anatomy.rechunk.model import RechunkOptions
from registry_pipelines.anatomy.rechunk.planning import plan_image, weights_of
from registry_pipelines.anatomy.rechunk.tree_digest import tree_digest, tree_lines
from registry_pipelines.errors import InputError
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.facts import LayerContent
from registry_pipelines.scan.merge import merge_layers
from registry_pipelines.stream.rechunk_record import RechunkedPlatform, RechunkRecord
from registry_pipelines.stream.source import SourceImage, read_source

SILENT = Silent()
_NOTHING = LayerContent(facts={}, links={})


@dataclass(frozen=True, kw_only=True)
class ComparedPlatform:
    """One platform's images, as they were read now."""

    platform: str
    origin: Digest
    rechunked: Digest
    origin_tree: Digest
    """Of the whole origin."""
    kept_tree: Digest
    """Of it, less what the record's options leave out."""
    tree: Digest
    """Of what was made."""
    difference: str = ""
    """The first line in which both trees differ; empty where they do not."""
    against: tuple[str, ...] = ()
    """In what the record says otherwise."""

    @property
    def holds(self) -> bool:
        """Whether both have the same files, and the record says so."""
        return self.kept_tree == self.tree and not self.against


def compare_images(
    origin: Place, rechunked: Place, record: RechunkRecord, *, folder: Path, progress: Progress = SILENT
) -> list[ComparedPlatform]:
    """Read both images of each platform of a record again. A platform that was left as it is is not read.

    origin: where what it was made of is; rechunked: where what was made is. folder: gets a folder for what is read,
    which is removed. Raises NotFound, InputError (a layer that nobody here can read), LayerInvalid, ManifestInvalid,
    ClosureIncomplete, LocalError, RegistryError.
    """
    before = {each.entry.digest: each for each in read_source(origin, record.origin).images}
    after = {each.entry.digest: each for each in read_source(rechunked, record.rechunked).images}
    found = []
    with local_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for platform in record.platforms:
        pair = before.get(platform.origin), after.get(platform.rechunked)
        if platform.origin == platform.rechunked:
            continue
        if pair[0] is None or pair[1] is None:
            raise InputError(
                f"no manifest of the record for {platform.platform} is below both images",
                where=f"{rechunked}@{record.rechunked}",
                do="Rechunk it again",
            )
        with tempfile.TemporaryDirectory(prefix="verify-", dir=folder) as state:
            one = _read(origin, pair[0], Path(state) / "origin", progress)
            other = _read(rechunked, pair[1], Path(state) / "rechunked", progress)
            found.append(_compared(platform, record, one, other))
    return found


_Read = tuple[Merged, Owners, Sequence[ReadLayer]]


def _read(place: Place, image: SourceImage, state: Path, progress: Progress) -> _Read:
    read = read_layers(place, image.layers, state=state, records=True, progress=progress)
    records = list[LayerRecord]()
    for each in read:
        if each.record is None:
            raise InputError(
                f"the layer {each.descriptor.digest} cannot be read: {each.problem}",
                where=f"{place}@{image.entry.digest}",
                do="Verify it where its layers are",
            )
        records.append(each.record)
    return merge(records), Owners(merge_layers([each.content or _NOTHING for each in read])), read


def _compared(platform: RechunkedPlatform, record: RechunkRecord, before: _Read, after: _Read) -> ComparedPlatform:
    options, (merged, owners, read) = _options(record), before
    without = plan_image(merged, owners, options, None, weights_of(read, options)).without
    whole, kept, tree = tree_digest(before[0]), tree_digest(before[0], without=without), tree_digest(after[0])
    return ComparedPlatform(
        platform=platform.platform,
        origin=platform.origin,
        rechunked=platform.rechunked,
        origin_tree=whole,
        kept_tree=kept,
        tree=tree,
        difference=_difference(before[0], without, after[0]) if kept != tree else "",
        against=tuple(_against(platform, whole, tree)),
    )


def _options(record: RechunkRecord) -> RechunkOptions:
    try:
        return msgspec.convert({"drop": record.drop, "times": record.times}, ready(RechunkOptions))
    except msgspec.ValidationError as error:
        raise InputError(
            f"it was made with options that this build does not know: {error}",
            where=str(record.rechunked),
            do=f"Verify it with {record.tool[:80]}",
        ) from error


def _against(platform: RechunkedPlatform, whole: Digest, tree: Digest) -> Iterator[str]:
    for what, told, found in (("the origin", platform.origin_tree, whole), ("what was made", platform.tree, tree)):
        if told != found:
            yield f"the record says that the tree digest of {what} is {told[:90]}, and it is {found}"


def _difference(before: Merged, without: Collection[bytes], after: Merged) -> str:
    """The first line in which two trees differ."""
    pairs = zip_longest(tree_lines(before, without=without), tree_lines(after), fillvalue=b"nothing")
    one, other = next((pair for pair in pairs if pair[0] != pair[1]), (b"", b""))
    return f"{one[:300].decode().strip()!r} is {other[:300].decode().strip()!r} in what was made"


__all__ = ["ComparedPlatform", "compare_images"]
