"""Start fast: index a release, derive one that starts fast of what was pushed, and say what keeps one from it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from registry_pipelines.chain.releases import deriving, names_release
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import ContentError, InputError, NotFound
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import Progress, count_text, size_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import put_tag
from registry_pipelines.release import Release
from registry_pipelines.stream.check import SEVERITIES, check_release
from registry_pipelines.stream.check_kinds import CheckRow
from registry_pipelines.stream.model import Stream
from registry_pipelines.stream.results import ConversionResult, IndexResult, StreamRow
from registry_pipelines.stream.standing import LayerStanding, read_standing

if TYPE_CHECKING:  # what signs and what sends is loaded by what does
    from registry_pipelines.evidence.model import Signer, Verifier
    from registry_pipelines.oci.layer.walk import LayerWalk
    from registry_pipelines.transfer.engine import Engine


def index(session: Session, release: Release, stream: Stream | None = None) -> StageResult:
    """Index every platform of a release beside it, by the ``stream`` of its image. What was derived has its index
    inside and gets none; where the image has no ``stream`` nothing is done. stream: what a person wants of an image
    without.

    ``facts["index_bytes"]`` and a row for each layer. Raises InputError (the indexer's key is not here), LayerInvalid,
    RegistryError.
    """
    image = session.image(release.image)
    wanted = image.stream or stream
    if wanted is None:
        return _nothing(release, f"not indexed: images.{image.name} has no `stream`")
    if wanted.derives:
        return _inside(session, release)
    result = Tools.of(session).index(session.source(release), session.subject(release), wanted)
    return _indexed(release.key, result, release=True)


def index_any(place: Place, selector: str, stream: Stream, tools: Tools) -> StageResult:
    """The same for any image. Raises NotFound too."""
    subject = place.registry.resolve(place.repository, selector)
    named = f"{place}@{subject.digest}" if selector == subject.digest else f"{place}:{selector}@{subject.digest}"
    return _indexed(named, tools.index(place, subject, stream), release=False)


def convert(session: Session, name: str, tag: str, stream: Stream | None = None) -> StageResult:
    """Make a release of what was pushed under ``tag``, in the form that the image's ``stream`` says, or ``stream``; of
    an image with ``rechunk`` of what that made of it.

    ``facts["release"]`` is its key. Where nothing can be converted the release is the image as it is, which gets the
    tag, too. Raises InputError (no form is said, no key of the indexer), TagImmutable, NotFound, LayerInvalid,
    RegistryError.
    """
    image = session.image(name)
    wanted = stream or image.stream
    if wanted is None or not wanted.derives:
        do = f"Write images.{name}.stream: {{format: soci-v2}}, or name a format here (--format)"
        raise InputError(f"nothing says what {name} is to be converted to", do=do)
    place = session.places.source(image)
    pushed, tag = tag, image.rechunk.released_tag(tag) if image.rechunk is not None else tag
    try:
        origin = place.registry.resolve(place.repository, tag)
    except NotFound as error:
        if image.rechunk is None:
            raise
        raise NotFound(error.what, where=error.where, do=f"First run `{deriving(image, pushed)}`") from error
    result = Tools.of(session).convert(place, origin, tag, wanted)
    made = Release(name, tag, origin.digest)
    if result.derived is not None:
        made = Release(name, result.tag, result.derived.digest)
    elif image.stream and image.stream.format == wanted.format:
        made = msgspec.structs.replace(made, tag=wanted.released_tag(tag))
        result = replace(result, tag=made.tag, changed=_tagged(place, made))
    return _converted(f"{name}:{tag}", result, wanted, release=made.key if names_release(image, made.tag) else "")


def convert_any(place: Place, selector: str, tag: str, stream: Stream, tools: Tools) -> StageResult:
    """The same for any image: what is made gets ``<tag>-<format>`` in its repository."""
    origin = place.registry.resolve(place.repository, selector)
    return _converted(f"{place}:{tag}@{origin.digest}", tools.convert(place, origin, tag, stream), stream, release="")


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What indexing and converting need besides an image. state: the folder of the configuration, or of the user."""

    state: Path
    signer: Signer
    engine: Engine
    progress: Progress

    @classmethod
    def of(cls, session: Session) -> Tools:
        """Those of a configuration. Raises InputError: the indexer's key is not here."""
        return cls(
            state=session.config.state,
            signer=session.keys.signer("indexer"),
            engine=session.engine(receipts=False),
            progress=session.progress,
        )

    def index(self, place: Place, subject: Descriptor, stream: Stream) -> IndexResult:
        """See :func:`~registry_pipelines.stream.publish.index_release`."""
        from registry_pipelines.stream.publish import index_release

        return index_release(place, subject, stream, **self._common())

    def convert(self, place: Place, origin: Descriptor, tag: str, stream: Stream) -> ConversionResult:
        """See :func:`~registry_pipelines.stream.derive.convert_release`."""
        from registry_pipelines.stream.derive import convert_release

        return convert_release(place, origin, tag, stream, **self._common())

    def _collect(self, walk: LayerWalk) -> None:
        """What a scan looks for, while the index reads a layer: the SBOM is asked for next."""
        from registry_pipelines.scan.collecting import collect_read

        collect_read(walk, state=self.state)

    def _common(self) -> dict[str, Any]:
        from registry_pipelines.oci.layer.store import LayerStore

        store = LayerStore(self.state / "layers", collect=self._collect)
        return {
            "state": self.state,
            "store": store,
            "signer": self.signer,
            "engine": self.engine,
            "progress": self.progress,
        }


def _tagged(place: Place, release: Release) -> bool:
    """Give what stays as it is the tag of a release; False where it has it. Raises TagImmutable for one that names
    something else."""
    from registry_pipelines.stream.pushing import has_tag

    if has_tag(place, release.tag, release.digest):
        return False
    put_tag(place, place.registry.get_manifest(place.repository, release.digest), release.tag)
    return True


def _nothing(release: Release, why: str) -> StageResult:
    return StageResult(
        stage="index", subject=release.key, action=why, digest=release.digest, facts={"release": release.key}
    )


def _inside(session: Session, release: Release) -> StageResult:
    """Of a release that was derived: what nodes find in it."""
    started = time.monotonic()
    found = read_standing(session.source(release), release.digest, session.verifier())
    return replace(
        _nothing(
            release, f"unchanged: inside ({found.text})" if found.covered else "none inside: nothing was converted"
        ),
        seconds=time.monotonic() - started,
        facts={
            "release": release.key,
            "platforms": found.platforms,
            "platforms_indexed": found.covered,
            "layers": len(found.layers),
            "layers_indexed": sum(layer.covered for layer in found.layers),
            "index_bytes": found.index_bytes,
        },
        rows=[
            {
                "platform": layer.platform,
                "layer": layer.layer,
                "bytes": layer.size,
                "fetched": "by pieces" if layer.covered else "whole",
                "index_bytes": layer.index_bytes,
            }
            for layer in found.layers
        ],
        tables={"platform_bytes": _by_platform(found.layers)},
    )


def check(
    place: Place,
    selector: str,
    *,
    subject: str,
    verifier: Verifier | None = None,
    stream: Stream | None = None,
    every_span: bool = False,
) -> StageResult:
    """What keeps an image from starting before it is fetched whole, a row for each thing, the worst first; read only.
    ``ok``: nothing that was made for streaming is broken or missing. A layer that a node fetches whole is a warning.

    selector: digest or tag. subject: what it is called in the answer. verifier: whose signature on an index counts.
    stream: what is wanted of the image, whose smallest layers need no index. every_span: read layers whole through
    their indexes, in place of a sample. ``tables["layers"]`` has how each layer can be read, ``tables["packs"]`` each
    platform's hot pack. Raises RegistryError: not found, or no answer.
    """
    started = time.monotonic()
    least = (stream or Stream()).min_layer_size
    found = check_release(place, selector, verifier=verifier, min_layer_bytes=least, every_span=every_span)
    counts = {severity: found.count(severity) for severity in SEVERITIES}
    worst = [row for row in found.rows if row.severity == "error"]
    return StageResult(
        stage="check",
        subject=subject,
        action=", ".join(count_text(count, severity) for severity, count in counts.items() if count) or "all well",
        digest=found.release,
        seconds=time.monotonic() - started,
        facts={f"{severity}s": count for severity, count in counts.items()},
        rows=[_check_row(row) for row in found.rows],
        tables={
            "layers": [msgspec.structs.asdict(each) for each in found.layers],
            "packs": [msgspec.structs.asdict(each) for each in found.packs],
        },
        reasons=list(dict.fromkeys(f"{row.layer or row.platform or subject}: {row.what}; {row.do}" for row in worst)),
        ok=not worst,
        exit_code=ContentError.exit_code if worst else 0,
    )


def _check_row(row: CheckRow) -> dict[str, Scalar]:
    return {
        "severity": row.severity,
        "reader": row.reader,
        "platform": row.platform,
        "layer": row.layer,
        "what": row.what,
        "why": row.why,
        "do": row.do,
        "name": row.name,
        "source": row.source,
    }


def _indexed(subject: str, result: IndexResult, *, release: bool) -> StageResult:
    """Indexes beside an image as a result. release: whether it is one of the configuration."""
    spans = sum(row.spans or 0 for row in result.rows)
    return StageResult(
        stage="index",
        subject=subject,
        action=_index_action(result),
        digest=next((each.index.digest for each in result.platforms if each.index), result.release),
        changed=result.changed,
        bytes_moved=result.bytes_sent,
        seconds=result.seconds,
        facts={
            **({"release": subject} if release else {}),
            "platforms": len(result.platforms),
            "platforms_indexed": result.indexed,
            "layers": len(result.rows),
            "layers_indexed": sum(1 for row in result.rows if row.made),
            "layer_bytes": sum(row.size for row in result.rows),
            "indexed_bytes": sum(row.size for row in result.rows if row.made),
            "index_bytes": sum(row.made_bytes for row in result.rows),
            **({"spans": spans} if spans else {}),
        },
        rows=[_index_row(row) for row in result.rows],
        tables={"platform_bytes": _by_platform([_standing(row) for row in result.rows])},
        notes=_notes(result.rows, result.missing, [each.why for each in result.platforms if each.why]),
    )


def _standing(row: StreamRow) -> LayerStanding:
    return LayerStanding(
        platform=row.platform, layer=row.layer, size=row.size, covered=bool(row.made), index_bytes=row.made_bytes
    )


def _index_action(result: IndexResult) -> str:
    if not result.indexed:
        return "nothing to index"
    made = sum(1 for row in result.rows if row.made)
    return f"{made} of {count_text(len(result.rows), 'layer')} indexed" if result.changed else "unchanged"


def _index_row(row: StreamRow) -> dict[str, Scalar]:
    return {
        "platform": row.platform,
        "layer": row.layer,
        "bytes": row.size,
        "how": row.how,
        "spans": row.spans if row.spans is not None else "",
        "index_bytes": row.made_bytes,
        "bytes_sent": row.bytes_sent,
        "why": row.why,
    }


def _converted(subject: str, result: ConversionResult, stream: Stream, *, release: str) -> StageResult:
    """What was made of an image as a result. release: the key of what was made; empty for an image that is none of the
    configuration's."""
    made, new = [row for row in result.rows if row.made], stream.format == "estargz"
    return StageResult(
        stage="convert",
        subject=subject,
        action=_conversion_action(result, len(made), "converted" if new else "indexed in a new image"),
        digest=result.derived.digest if result.derived else result.origin,
        changed=result.changed,
        bytes_moved=result.bytes_sent,
        seconds=result.seconds,
        facts={
            **({"release": release} if release else {}),
            "tag": result.tag,
            "origin": result.origin,
            "layers": len(result.rows),
            ("layers_converted" if new else "layers_indexed"): len(made),
            "layer_bytes": sum(row.size for row in result.rows),
            ("converted_bytes" if new else "index_bytes"): sum(row.made_bytes for row in made),
        },
        rows=[_conversion_row(row) for row in result.rows],
        notes=_notes(result.rows, result.missing, [result.why] if result.why else []),
    )


def _conversion_action(result: ConversionResult, made: int, done: str) -> str:
    if result.derived is None:
        return "nothing to convert"
    return f"{made} of {count_text(len(result.rows), 'layer')} {done}" if result.changed else "unchanged"


def _conversion_row(row: StreamRow) -> dict[str, Scalar]:
    return {
        "platform": row.platform,
        "layer": row.layer,
        "bytes": row.size,
        "how": row.how,
        "made": row.made,
        "made_size_bytes": row.made_bytes,
        "bytes_sent": row.bytes_sent,
        "why": row.why,
    }


def _by_platform(layers: Sequence[LayerStanding]) -> list[dict[str, Scalar]]:
    """Bytes of the layers of each platform: those that a node fetches by pieces, and whole; and the index of those."""
    found: list[dict[str, Scalar]] = []
    for platform in dict.fromkeys(layer.platform for layer in layers):
        own = [layer for layer in layers if layer.platform == platform]
        found.append(
            {
                "platform": platform,
                "by_pieces_bytes": sum(layer.size for layer in own if layer.covered),
                "whole_bytes": sum(layer.size for layer in own if not layer.covered),
                "index_bytes": sum(layer.index_bytes for layer in own),
            }
        )
    return found


def _notes(rows: Sequence[StreamRow], missing: Sequence[str], more: Sequence[str]) -> list[str]:
    """What was left out, in sums: the table has each layer with its reason. missing: of the files to be fetched first,
    those that are nowhere."""
    told = [f"`prioritize` names {path}, which is in no layer that is streamed" for path in missing]
    for how in ("skipped", "kept"):
        sizes = [row.size for row in rows if row.how == how]
        if sizes:
            them, they = ("it", "it") if len(sizes) == 1 else ("them", "they")
            words = f"no index, so a node fetches {them} whole" if how == "skipped" else f"the form {they} had"
            told.append(f"{count_text(len(sizes), 'layer')} with {words}: {size_text(sum(sizes))}")
    return list(dict.fromkeys([*more, *told]))
