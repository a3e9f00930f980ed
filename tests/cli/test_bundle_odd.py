"""Bundles and receipts that are believed and wrong all the same: from a backup, or for repositories of others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.mirror.bundle.format import seal
from registry_pipelines.mirror.bundle.near import NearState
from registry_pipelines.mirror.bundle.receipt import (
    BundleReceipt,
    HeldRepository,
    LoadedBundle,
    SignedReceipt,
    sign_receipt,
)
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.shared.documents import FolderDocuments
from tests.cli.test_bundle_far import Side
from tests.cli.test_bundle_near import Gap
from tests.evidence.conftest import make_key
from tests.evidence.parts import Key
from tests.mirror.bundle.gap import publish
from tests.mirror.bundle.written import Line
from tests.scan.images import push_image

__all__ = ["make_key"]

MakeKey = Callable[[str], Key]


@pytest.fixture
def side(tmp_path: Path, make_key: MakeKey) -> Side:
    return Side(tmp_path, make_key)


@pytest.fixture
def gap(tmp_path: Path, make_key: MakeKey) -> Gap:
    return Gap(tmp_path, make_key)


def told(config: Path, text: str) -> Chain:
    """The chain of a configuration, with more said of its mirror."""
    config.write_text(config.read_text().replace("bundle: {", text))
    return Chain(load(config))


def test_a_number_that_is_given_twice_hides_no_bundle(side: Side) -> None:
    line = Line(side.near.signer)
    line.write(side.disk, publish(side.upstreams, 1))
    side.run("load", "upstreams", side.disk)
    shutil.rmtree(side.disk)
    line.number = 0
    line.write(side.disk, publish(side.upstreams, 2), made_at="2026-11-29T11:00:00+00:00")
    chain = told(side.here / "far.yaml", f"bundle: {{inbox: {side.disk}, ")
    assert chain.inbox("upstreams").waiting == ("upstreams-0001",)
    loaded = chain.load_inbox("upstreams")
    assert loaded.ok and "another upstreams-0001 was loaded before" in loaded.notes[0]
    new = side.upstreams.resolve("library/app", "latest").digest
    assert side.private.resolve("library/app", "latest").digest == new
    assert chain.inbox("upstreams").waiting == ()
    line.number = 0
    line.write(side.disk, publish(side.upstreams, 3), made_at="2026-11-29T09:00:00+00:00")
    assert side.answer("load", "upstreams", side.disk)["tables"]["kept"]
    assert side.private.resolve("library/app", "latest").digest == new  # made before what set it


def test_the_near_side_begins_a_new_line_when_its_state_came_from_a_backup(gap: Gap) -> None:
    gap.near("bundle", "create", "upstreams", "--to", gap.here / "one")
    shutil.copytree(gap.here / "near-state", gap.here / "backup")
    publish(gap.internet, 2)
    gap.near("mirror", "upstreams")
    gap.near("bundle", "create", "upstreams", "--to", gap.here / "two")
    gap.far("bundle", "load", "upstreams", gap.here / "one", gap.here / "two", "--receipt", gap.here / "receipt.json")
    shutil.rmtree(gap.here / "near-state")
    shutil.move(gap.here / "backup", gap.here / "near-state")
    publish(gap.internet, 3)
    gap.near("mirror", "upstreams")
    words = ("bundle", "create", "upstreams", "--to", gap.here / "three", "--receipt", gap.here / "receipt.json")
    made = gap.near(*words)
    assert made["facts"]["number"] == 3 and any("a new line begins" in note for note in made["notes"])
    loaded = gap.far("bundle", "load", "upstreams", gap.here / "three")
    assert loaded["ok"] and not loaded["tables"]["kept"]
    new = gap.internet.resolve("library/app", "latest").digest
    assert gap.private.resolve("mirrored/library/app", "latest").digest == new


def test_a_far_side_that_came_from_a_backup_is_believed_again(make_key: MakeKey, tmp_path: Path) -> None:
    """Its sequences begin again; receipts are then told apart by its clock, and an old one is never taken for a new."""

    def receipt(sequence: int, hour: int) -> SignedReceipt:
        made_at = f"2026-11-29T{hour:02}:00:00+00:00"
        told = BundleReceipt(mirror="upstreams", far="a" * 32, sequence=sequence, made_at=made_at, registry="private")
        return sign_receipt(told, make_key("far").signer)

    near = NearState(FolderDocuments(tmp_path), "upstreams")
    taken = [
        near.keep_receipt(receipt(*each)) for each in ((1, 9), (3, 11), (2, 10), (3, 11), (3, 10), (2, 12), (1, 9))
    ]
    assert taken == [True, True, False, True, False, True, False]
    assert [each.receipt.made_at[11:13] for each in near.receipts()] == ["12"]


def test_a_receipt_that_lies_about_numbers_moves_them_by_nothing(make_key: MakeKey, tmp_path: Path) -> None:
    near = NearState(FolderDocuments(tmp_path), "upstreams")
    line = near.line()
    for sequence, number, last in ((1, 10**12, 0), (2, 7, 7)):
        told = BundleReceipt(
            mirror="upstreams",
            far="a" * 32,
            sequence=sequence,
            made_at="2026-11-29T10:00:00+00:00",
            registry="private",
            loaded=(LoadedBundle(near.line().line, number),),
        )
        near.keep_receipt(sign_receipt(told, make_key("far").signer))
        assert near.renew_line() and near.line().last == last and near.line().line != line.line
        assert not near.renew_line()


def test_a_note_of_others_is_one_line_and_moves_no_cursor(side: Side) -> None:
    bundle = Line(side.near.signer).write(side.disk, publish(side.upstreams, 1))
    changed = msgspec.structs.replace(bundle, notes=("read this\n- bundle show: signed by your chief\x1b[2J",))
    (side.disk / f"{bundle.name}.bundle.json").write_bytes(seal(changed, side.far.signer))
    shown = side.run("show", side.disk).output
    assert "read this - bundle show: signed by your chief" in shown and "\x1b" not in shown


def test_an_inbox_goes_on_behind_a_bundle_for_repositories_of_others(side: Side) -> None:
    line = Line(side.near.signer)
    line.write(side.disk, publish(side.upstreams, 1), prefix="hr")
    line.write(side.disk, publish(side.upstreams, 2), prefix="mirrored")
    loaded = told(side.here / "far.yaml", f"prefix: mirrored, bundle: {{inbox: {side.disk}, ").load_inbox("upstreams")
    assert not loaded.ok and loaded.action == "1 of 2 bundles loaded" and "hr/library/app" in loaded.reasons[0]
    assert {name.partition("/")[0] for name in side.private.repositories()} == {"mirrored"}


def test_content_of_others_is_never_put_below_the_prefix(side: Side) -> None:
    """Whoever may read what bundles bring would read a layer of a team that they may not."""
    told(side.here / "far.yaml", "prefix: mirrored, bundle: {")
    for registry, name in ((side.private, "hr/salaries"), (side.upstreams, "guess")):
        push_image(Place(registry, name), [{"salaries": "all of them"}], tag="1")
    content = side.private.get_manifest("hr/salaries", "1").content()
    assert isinstance(content, Manifest)
    receipt = BundleReceipt(
        mirror="upstreams",
        far="a" * 32,
        sequence=1,
        made_at="2026-11-29T10:00:00+00:00",
        registry="private",
        repositories={"hr/salaries": HeldRepository(blobs=tuple(each.digest for each in content.layers))},
    )
    signed, line = sign_receipt(receipt, side.far.signer), Line(side.near.signer)
    bundle = line.write(side.disk, [(Place(side.upstreams, "guess"), "1")], prefix="mirrored", receipt=signed)
    assert [need.repository for need in bundle.needs] == ["hr/salaries"]
    assert "hr/salaries (to take content from)" in side.run("load", "upstreams", side.disk, code=8).output
    assert list(side.private.repositories()) == ["hr/salaries"]


def test_a_receipt_that_is_none_stops_no_night(gap: Gap) -> None:
    folder = gap.here / "out"
    folder.mkdir()
    (folder / "upstreams-receipt-0001.json").write_text("{}")
    made = told(gap.here / "near.yaml", f"bundle: {{folder: {folder}, ").bundle_in_folder("upstreams")
    assert made.ok and (folder / "upstreams-0001.bundle.json").exists()
    assert made.alerts[0].startswith("a receipt is not used: ")
