"""What a copy leaves out is told everywhere it is told what a copy brings, and never compared in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.closure import omissions
from registry_pipelines.transfer.closure.closure import Omission
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.delivery.receipts import ReceiptFolder, make_receipt
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.summary import MAX_NOTES, Summary
from registry_pipelines.transfer.sync import OpenTarget, Source, sync
from registry_pipelines.transfer.verify import examine

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

ARM = [Platform.parse("linux/arm64")]
BASE = b"the base of an operating system"


def foreign(content: bytes, url: str) -> Descriptor:
    """A layer that its publisher keeps elsewhere, as Microsoft's images had them."""
    kind = media_types.DOCKER_FOREIGN_LAYER
    return Descriptor(media_type=kind, digest=Digest.of(content), size=len(content), urls=(f"http://{url}/base",))


def windows(place: Place, *layers: Descriptor, tag: str) -> ManifestBytes:
    manifest = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=push_blob(place, b'{"os":"windows","architecture":"amd64"}', media_type=media_types.OCI_CONFIG),
            layers=layers,
        )
    )
    place.registry.put_manifest(place.repository, manifest, tag=tag)
    return manifest


def test_a_note_is_one_line_in_plain_words() -> None:
    layers = [Omission("foreign-layer", f"sha256:{n}", "", 600_000_000) for n in range(2)]
    gone, wrong = "it is listed, and not there", "it names no such subject"
    assert omissions.note([]) == ""
    assert omissions.note(layers[:1] * 2) == "1 layer (572.2 MiB) stays with its publisher"
    assert omissions.note([*layers, Omission("platform", "sha256:x", "platform a was not chosen")]) == (
        "2 layers (1.1 GiB) stay with their publisher; 1 platform was not chosen"
    )
    referrers = [Omission("referrer", f"sha256:{n}", why) for n, why in enumerate((gone, wrong, gone))]
    assert omissions.note(referrers) == f"2 referrers stay behind: {gone}; 1 referrer stays behind: {wrong}"


def test_a_layer_that_stays_with_its_publisher_stands_in_plan_result_and_receipt(
    source: Counted, target: Counted, tmp_path: Path
) -> None:
    here, there, layer = source.place("app"), target.place("app"), foreign(BASE, "mcr.example")
    windows(here, layer, tag="v1")
    told = [
        {
            "kind": "foreign-layer",
            "what": layer.digest,
            "why": "its publisher keeps it elsewhere",
            "size_bytes": len(BASE),
        }
    ]
    planned = copy_closure(here, "v1", [there], dry_run=True)
    assert [each["left_out"] for each in planned.plan.to_json()["deliveries"]] == [told]  # type: ignore[attr-defined]
    for _ in ("copied", "unchanged"):
        done = copy_closure(here, "v1", [there], engine=Engine(state=tmp_path))
        [result] = done.per_target
        assert omissions.rows(done.left_out) == omissions.rows(result.left_out) == told
        assert (result.row()["left_out"], result.row()["note"]) == (1, "1 layer (31 B) stays with its publisher")
        assert result.receipt is not None and result.receipt.document["left_out"] == told


def test_layers_of_publishers_are_taken_where_the_source_holds_them_and_never_fetched_elsewhere(
    source: Counted, target: Counted, start_embedded: Callable[..., Counted]
) -> None:
    here, there, publisher = source.place("app"), target.place("app"), start_embedded()
    held, kept = foreign(BASE, publisher.address), foreign(b"held by nobody here", publisher.address)
    for registry in (here, publisher.place("app")):
        push_blob(registry, BASE, media_type=held.media_type)
    windows(here, held, kept, tag="v1")
    publisher.forget()
    done = copy_closure(here, "v1", [there], foreign_layers=True)
    assert [(each.what, each.why) for each in done.left_out] == [
        (kept.digest, "its publisher keeps it elsewhere, and the source does not hold it")
    ]
    assert there.registry.blob_size("app", held.digest) == len(BASE)
    assert there.registry.blob_size("app", kept.digest) is None
    assert not publisher.exchanges
    assert examine(here, there, "v1", foreign_layers=True, content=True).differences == ()


def test_a_comparison_names_the_layers_that_it_did_not_compare_and_who_holds_them(
    source: Counted, target: Counted
) -> None:
    here, there, layer = source.place("app"), target.place("app"), foreign(BASE, "mcr.example")
    windows(here, layer, tag="v1")
    copy_closure(here, "v1", [there])

    def said() -> str:
        examination = examine(here, there, "v1", content=True)
        assert examination.differences == ()
        [left_out] = examination.not_compared
        assert (left_out.kind, left_out.what) == ("foreign-layer", layer.digest)
        return left_out.why.partition("; ")[2]

    assert said() == "neither place holds it"
    push_blob(here, BASE, media_type=layer.media_type)
    assert said() == f"{here} holds it, the other does not"
    [lost] = examine(here, there, "v1", foreign_layers=True).differences
    assert (lost.kind, lost.subject) == ("blob", layer.digest)
    push_blob(there, BASE, media_type=layer.media_type)
    assert said() == "both places hold it"


def test_a_new_index_names_the_signatures_that_stay_with_the_old_one(
    source: Counted, target: Counted, graphs: Graphs
) -> None:
    here = source.place("app")
    top = graphs.signed_index(here, "v1")
    [signature] = here.registry.referrers("app", top.digest)
    sparse = copy_closure(here, "v1", [target.place("sparse")], platforms=ARM)
    assert [each.kind for each in sparse.left_out] == ["platform"]
    assert signature.digest in {item.digest for item in target.registry.referrers("sparse", top.digest)}
    anew = copy_closure(here, "v1", [target.place("anew")], platforms=ARM, selection="rewritten")
    behind = [(each.kind, each.what) for each in anew.left_out if each.kind != "platform"]
    assert behind == [("referrer", signature.digest), ("tag", f"sha256-{top.digest.hex}.sig")]
    assert "about the whole index" in str(anew.per_target[0].row()["note"])


def test_what_a_target_lists_beyond_the_source_is_no_difference_where_it_is_no_referrer(
    source: Counted, target: Counted, graphs: Graphs
) -> None:
    """As Harbor lists cosign's tags for their image. One that does refer to it is a difference, as ever."""
    here, there = source.place("app"), target.place("app")
    image = graphs.image(here, b"layer", tag="v1")
    copy_closure(here, "v1", [there])
    real = graphs.artifact(there, b"about it", subject=image.descriptor)
    unrelated = graphs.artifact(there, b"about nothing", subject=None)
    gone = Descriptor(media_type=media_types.OCI_MANIFEST, digest=Digest.of(b"gone"), size=4)
    true = there.registry.referrers

    class Lying:
        def __getattr__(self, name: str) -> object:
            return getattr(there.registry, name)

        def referrers(self, repository: str, digest: Digest, **rest: object) -> list[Descriptor]:
            return [*true(repository, digest), unrelated.descriptor, gone]

    examination = examine(here, Place(Lying(), "app"), "v1")  # type: ignore[arg-type]
    assert [(each.kind, each.found) for each in examination.differences] == [("referrer", real.digest)]
    assert {each.what for each in examination.not_compared} == {unrelated.digest, gone.digest}


def test_a_sync_names_tags_that_no_image_takes_along_and_repositories_that_it_never_takes(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    here = source.place("app")
    graphs.signed_index(here, "v1")
    orphan, unchosen = f"sha256-{'0' * 64}.sig", graphs.image(here, b"other", tag="v2")
    graphs.artifact(here, b"of nobody", subject=None, tag=orphan)
    theirs = f"sha256-{unchosen.digest.hex}.sig"
    graphs.artifact(here, b"of v2", subject=None, tag=theirs)
    graphs.image(source.place("ours"), b"a release", tag="v1")
    taken = Source(source.registry, (OpenTarget(target.registry),), never={"ours": "it is promoted"})

    def told(wanted: Source) -> list[tuple[object, ...]]:
        summary = Summary(sync([wanted], engine=Engine(state=tmp_path)), ["target"])
        assert summary.totals()["left_out_count"] == len(summary.left_out_rows())
        return [(row["kind"], row["what"]) for row in summary.left_out_rows()]

    ours = ("repository", f"{source.registry.name}/ours")
    assert told(taken) == [ours, ("tag", f"{here}:{orphan}")]
    assert not list(target.server.root.glob("ours"))
    one = Source(
        source.registry, (OpenTarget(target.registry),), ("app",), choose_tags=type(taken.choose_tags)(("v1",))
    )
    assert told(one) == [("tag", f"{here}:{tag}") for tag in sorted((orphan, theirs))]
    within = Source(source.registry, (OpenTarget(source.registry, "copies"),))
    assert [kind for kind, _ in told(within)] == ["tag"]
    copied = sorted(("repository", f"{source.registry.name}/copies/{name}") for name in ("app", "ours"))
    assert told(within) == [*copied, ("tag", f"{here}:{orphan}")]


def test_notes_of_many_images_are_few_and_the_table_has_them_all(
    source: Counted, target: Counted, graphs: Graphs
) -> None:
    here = source.place("app")
    for number in range(MAX_NOTES + 5):
        windows(here, foreign(b"x" * (number + 1), "mcr.example"), tag=f"v{number:02}")
    graphs.image(here, b"whole", tag="whole")
    done = sync([Source(source.registry, (OpenTarget(target.registry),))])
    summary = Summary(done, ["target"])
    assert len(summary.left_out_rows()) == MAX_NOTES + 5
    notes = summary.notes()
    assert notes[0] == "app:v00: 1 layer (1 B) stays with its publisher"
    assert notes[MAX_NOTES:] == ["5 more images leave something out"]
    alike = [windows(here, foreign(b"same", "mcr.example"), tag=f"v{number:02}") for number in range(MAX_NOTES + 5)]
    again = Summary(sync([Source(source.registry, (OpenTarget(target.registry),))]), ["target"]).notes()
    assert again == [f"{len(alike)} images, from app:v00 to app:v24: 1 layer (4 B) stays with its publisher"]


def test_a_receipt_of_before_says_nothing_wrong_and_one_that_says_too_little_is_written_anew(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    here, there, store = source.place("app"), target.place("app"), ReceiptFolder(tmp_path / "receipts")
    root = windows(here, foreign(BASE, "mcr.example"), tag="v1").digest
    copy_closure(here, "v1", [there], engine=Engine(state=tmp_path))
    receipt = store.load(there, root)
    assert receipt is not None
    before = {name: value for name, value in receipt.document.items() if name != "left_out"}
    for document, kept in ((before, True), ({**before, "left_out": []}, False)):
        ReceiptFolder(tmp_path / "receipts").save(there, root, make_receipt(document, None))
        [result] = copy_closure(here, "v1", [there], engine=Engine(state=tmp_path)).per_target
        assert result.receipt is not None and not result.changed
        assert (result.receipt.document == document) is kept
        assert kept or result.receipt.document["left_out"] == receipt.document["left_out"]
