"""`report cost` over configurations: figures worked out by hand, what is not known, what is kept, and du beside it."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from registry_pipelines.anatomy.kept import keep_classes
from registry_pipelines.anatomy.report import LayerPart
from registry_pipelines.chain import Chain
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid, InputError
from registry_pipelines.inventory.rows import Row, Rows
from registry_pipelines.inventory.value import Inventory, Source, Unread, join
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.report.cost import CostReport, CostRow
from registry_pipelines.report.history import months, read_runs, write_run
from registry_pipelines.shared.documents import FolderDocuments
from tests.answers import answered
from tests.collect.test_retention import push, push_index
from tests.ports import free_ports
from tests.report.shelf import AT, digest, image, shelf

GB = 10**9
CLOUDS = """
registries:
  ecr: {kind: ecr, account: '111122223333', region: eu-west-1}
  gar: {kind: gar, project: ml-prod, location: europe-west1}
  own: {kind: distribution, host: registry.example.com}
"""
BOOK: dict[str, Any] = {
    "currency": "USD",
    "date": "2099-01-01",
    "source": "our contract",
    "prices": [
        {"id": "aws/ecr/storage", "usd": 0.2, "per": "GB-month", "what": "", "region": "us-east-1"},
        {"id": "aws/ecr/storage/eu-west-1", "usd": 0.1, "per": "GB-month", "what": "", "region": "eu-west-1"},
        {"id": "aws/ecr/archive", "usd": 0.1, "per": "GB-month", "what": "", "tiers": [{"above": 100, "usd": 0.05}]},
        {"id": "gcp/gar/storage", "usd": 0.1, "per": "GB-month", "what": "", "free": 0.5},
        {"id": "aws/inspector/scan-first", "usd": 0.09, "per": "scan", "what": ""},
        {"id": "aws/inspector/rescan", "usd": 0.01, "per": "scan", "what": ""},
        {"id": "gcp/scan", "usd": 0.26, "per": "scan", "what": ""},
    ],
}


def book(folder: Path, **change: Any) -> Path:
    """The book above, dated today, so that none of it is old."""
    path = folder / "prices.json"
    path.write_text(json.dumps({**BOOK, "date": datetime.now(UTC).date().isoformat(), **change}))
    return path


def configured(folder: Path, more: str = "", registries: str = CLOUDS) -> Path:
    path = folder / "registry-pipelines.yaml"
    path.write_text(registries + more)
    return path


def cost(config: Path, *arguments: object, code: int = 0) -> dict[str, Any]:
    done = CliRunner().invoke(main, ["report", "cost", *map(str, arguments), "--json", "--config", str(config)])
    assert done.exit_code == code, done.output
    found: dict[str, Any] = answered(done.stdout)
    return found


def stored(folder: Path, inventory: Inventory) -> Path:
    path = folder / "stored.parquet"
    inventory.write(path)
    return path


def ecr(*rows: Row) -> Inventory:
    return shelf(rows, kind="ecr")


def test_storage_by_team_repository_image_and_what_would_be_freed(tmp_path: Path) -> None:
    rows = [image("team/vision/app", f"v{at}", {"base": 3 * GB, f"v{at}": GB}, registry="ecr") for at in range(2)]
    rows.append(image("team/speech/app", "v1", {"base": 3 * GB}, registry="ecr"))
    teams = "report: {teams: {vision: ['team/vision/*'], speech: ['team/speech/*']}, prices: prices.json}"
    book(tmp_path)
    config = configured(tmp_path, teams)
    found = cost(config, "--from", stored(tmp_path, ecr(*rows)))
    # ECR keeps the base in each repository: 5 GB and 3 GB at 0.10.
    columns = ("team", "fair_bytes", "usd_per_month", "freed_usd_per_month")
    assert [[row[name] for name in columns] for row in found["rows"]] == [
        ["vision", 5 * GB, 0.5, 0.5], ["speech", 3 * GB, 0.3, 0.3],
    ]  # fmt: skip
    assert found["facts"]["usd_per_month"] == 0.8 and found["facts"]["usd_per_month of vision"] == 0.5
    assert found["facts"]["sure"] and not found["alerts"]
    images = {row["image"]: row for row in found["tables"]["images"]}
    assert images["ecr/team/vision/app:v1"]["fair_bytes"] == 2.5 * GB
    assert images["ecr/team/vision/app:v1"]["freed_usd_per_month"] == 0.1
    mounted = configured(tmp_path, teams + "\ninfra: {ecr: {kind: ecr, account: {blob_mounting: true}}}")
    found = cost(mounted, "--from", tmp_path / "stored.parquet", "--by", "repository")
    assert found["facts"]["bytes"] == 5 * GB and any("at least this" in note for note in found["notes"])


def test_a_price_of_another_region_an_old_and_an_unsure_one_mark_every_figure(tmp_path: Path) -> None:
    config = configured(tmp_path)
    path = stored(tmp_path, ecr(image("app", "v1", {"a": GB}, registry="ecr")))
    (tmp_path / "old").mkdir()
    prices = [
        {"id": "aws/ecr/storage", "usd": 0.2, "per": "GB-month", "what": "", "region": "us-east-1", "sure": False}
    ]
    old = book(tmp_path / "old", date="2020-01-01", prices=prices)
    found = cost(config, "--from", path, "--prices", old)
    assert found["rows"][0]["doubt"] == "aws/ecr/storage: of 2020-01-01, sources differ, of us-east-1"
    assert found["alerts"] and found["facts"]["sure"] is False
    shown = CliRunner().invoke(
        main, ["report", "cost", "--from", str(path), "--prices", str(old), "--config", str(config)]
    )
    assert "0.20?" in shown.stdout and "not sure: aws/ecr/storage: of 2020-01-01" in shown.stdout


def test_bytes_without_a_price_are_shown_as_bytes(tmp_path: Path) -> None:
    config = configured(tmp_path, "report: {budget: {total: 1000}}")
    rows = [image("app", "v1", {"a": 7 * GB}, registry="own")]
    found = cost(config, "--from", stored(tmp_path, shelf(rows, kind="distribution")), "--by", "registry")
    (row,) = found["rows"]
    assert (row["fair_bytes"], row["unpriced_bytes"], row["usd_per_month"]) == (7 * GB, 7 * GB, "")
    assert row["doubt"] == "no price own/own/storage" and "usd_per_month" not in found["facts"]
    chain = Chain(load(config))
    (reason,) = chain.over_budget(chain.cost(stored=tmp_path / "stored.parquet"))
    assert "is not known" in reason


def test_rows_of_a_registry_that_the_file_does_not_name_are_counted_or_refused(tmp_path: Path) -> None:
    config = configured(tmp_path, f"report: {{prices: {book(tmp_path)}}}")
    rows = [image("app", "v1", {"a": GB}, registry="ecr"), image("app", "v1", {"b": 2 * GB}, registry="own")]
    assert cost(config, "--from", stored(tmp_path, ecr(*rows)))["facts"]["bytes"] == 3 * GB
    rows.append(image("app", "v1", {"c": GB}, registry="theirs"))
    refused = CliRunner().invoke(
        main, ["report", "cost", "--from", str(stored(tmp_path, ecr(*rows))), "--config", str(config)]
    )
    assert refused.exit_code == 8 and "which is no registry of the configuration" in refused.stderr


def test_above_its_budget_the_command_says_so_and_ends_with_3(tmp_path: Path) -> None:
    config = configured(tmp_path, registries="registries:\n  shelf: {kind: layout, root: shelf}\n")
    push(Place(Chain(load(config)).registry("shelf"), "app"), "v1", days_ago=1)
    assert cost(config)["ok"]
    priced = book(tmp_path, prices=[{"id": "own/shelf/storage", "usd": 1000.0, "per": "GB-month", "what": ""}])
    config.write_text(config.read_text() + f"report: {{prices: {priced}, budget: {{total: 0}}}}\n")
    told = cost(config, code=3)
    assert not told["ok"] and "all registries" in told["reasons"][-1] and "above its budget of 0" in told["reasons"][-1]
    shown = CliRunner().invoke(main, ["report", "cost", "--config", str(config)])
    assert shown.exit_code == 3 and "above its budget of 0" in shown.stdout and "needed: " in shown.stdout
    assert cost(config, "shelf")["ok"], "a part is held against no budget"


def test_free_parts_and_tiers_are_of_all_that_is_stored_at_a_price(tmp_path: Path) -> None:
    config = configured(tmp_path, f"report: {{prices: {book(tmp_path)}}}")
    rows = [
        image("ml-prod/models/a", "v1", {"a": GB}, registry="gar"),
        image("ml-prod/models/b", "v1", {"b": GB}, registry="gar"),
    ]
    found = cost(config, "--from", stored(tmp_path, shelf(rows, kind="gar")))
    # 2 GB, of which 0.5 are free; without one of them 0.5 GB would be billed.
    assert found["facts"]["usd_per_month"] == 0.15
    assert [(row["usd_per_month"], row["freed_usd_per_month"]) for row in found["rows"]] == [(0.075, 0.1)] * 2
    europe = {"id": "gcp/gar/storage/europe-west1", "usd": 0.2, "per": "GB-month", "what": "", "free": 0.5}
    clouds = CLOUDS + "  us: {kind: gar, project: ml-prod, location: us-central1}\n"
    several = f"report: {{prices: {book(tmp_path, prices=[*BOOK['prices'], europe])}}}"
    more = [image("ml-prod/models/c", "v1", {"c": 2 * GB}, registry="us")]
    both = join([shelf(rows, kind="gar"), shelf(more, kind="gar")])
    found = cost(configured(tmp_path, several, clouds), "--from", stored(tmp_path, both))
    assert found["facts"]["usd_per_month"] == pytest.approx(1.5 * 0.2 + 2 * 0.1), "0.5 GB are free of all regions"
    configured(tmp_path, f"report: {{prices: {book(tmp_path)}}}")
    rows = [image("app", "v1", {"a": 300 * GB}, registry="ecr", status="ARCHIVED")]
    found = cost(config, "--from", stored(tmp_path, ecr(*rows)))
    assert found["facts"]["usd_per_month"] == 100 * 0.1 + 200 * 0.05


def test_scans_are_those_of_what_was_pushed_and_of_what_is_scanned_again(tmp_path: Path) -> None:
    rows = [image("app", f"v{at}", {f"{at}": 1}, registry="ecr", age_days=at * 20) for at in range(4)]
    rows.append(image("app", "", {"s": 1}, registry="ecr", named="s", subject="ecr/app:v1", age_days=1))
    path = stored(tmp_path, ecr(*rows))
    scans = f"report: {{prices: {book(tmp_path)}, scans: {{ecr: {{rescans: 3}}}}}}"
    found = cost(configured(tmp_path, scans), "--from", path, "--by", "registry")
    assert found["rows"][0]["scan_usd_per_month"] == pytest.approx(2 * 0.09 + 4 * 3 * 0.01)
    enhanced = "{kind: ecr, scanning: {type: ENHANCED, continuous: ['*']}}"
    declared = f"report: {{prices: {book(tmp_path)}}}\ninfra: {{ecr: {enhanced}}}"
    found = cost(configured(tmp_path, declared), "--from", path, "--by", "registry")
    assert found["rows"][0]["scan_usd_per_month"] == 0.18
    assert "scanned again is not known" in found["rows"][0]["doubt"]
    lacking = [each for each in BOOK["prices"] if each["id"] != "aws/inspector/rescan"]
    found = cost(
        configured(tmp_path, f"report: {{prices: {book(tmp_path, prices=lacking)}, scans: {{ecr: {{rescans: 3}}}}}}"),
        "--from", path, "--by", "registry",
    )  # fmt: skip
    assert found["rows"][0]["scan_usd_per_month"] == "" and "no price aws/inspector/rescan" in found["rows"][0]["doubt"]
    book(tmp_path)
    undated = shelf([image("ml-prod/r/app", "v1", {"a": 1}, registry="gar")], kind="gar")
    scans = f"report: {{prices: {book(tmp_path)}, scans: {{gar: {{}}}}}}"
    found = cost(configured(tmp_path, scans), "--from", stored(tmp_path, undated), "--by", "registry")
    assert found["rows"][0]["scan_usd_per_month"] == "" and "1 image came is not known" in found["rows"][0]["doubt"]


def test_classes_are_of_layers_that_somebody_looked_into(tmp_path: Path) -> None:
    config = configured(tmp_path, f"report: {{prices: {book(tmp_path)}}}")
    layer = LayerPart(
        number=1, digest=digest("base"), compressed=GB, unpacked=4, compression="gzip", files=2, gone=0,
        gone_compressed=0, classes={"weights": 3, "base OS": 1}, wire_s=0, inflate_s=None, made_by="",
    )  # fmt: skip
    keep_classes(load(config).state, [layer])
    found = cost(
        config,
        "--from",
        stored(tmp_path, ecr(image("app", "v1", {"base": GB, "own": GB}, registry="ecr"))),
        "--by",
        "class",
    )
    assert {row["class"]: row["fair_bytes"] for row in found["rows"]} == {
        "not known": GB, "weights": 0.75 * GB, "base OS": 0.25 * GB,
    }  # fmt: skip
    (load(config).state / "anatomy" / "classes" / f"{digest('base').replace(':', '-')}.json").write_text("[")
    found = cost(config, "--from", tmp_path / "stored.parquet", "--by", "class")
    assert [row["class"] for row in found["rows"]] == ["not known"]


def test_a_repository_that_two_teams_claim_is_the_firsts_and_that_is_told(tmp_path: Path) -> None:
    config = configured(tmp_path, "report: {teams: {a: ['app'], b: ['*']}}")
    found = cost(config, "--from", stored(tmp_path, ecr(image("app", "v1", {"a": 1}, registry="ecr"))))
    assert [row["team"] for row in found["rows"]] == ["a"]
    assert "ecr/app: patterns of a and b match; it is counted to a" in found["notes"]


def test_what_a_store_takes_on_disk_is_what_is_counted(tmp_path: Path) -> None:
    """GNU du beside it: blobs of two repositories, an index, and what both share."""
    config = configured(tmp_path, registries="registries: {shelf: {kind: store, address: shelf}}\n")
    chain = Chain(load(config))
    registry = chain.registry("shelf")
    base = bytes(range(256)) * 400
    for repository in ("team/a", "team/b"):
        place = Place(registry, repository)
        push(place, "v1", days_ago=1, layers=(base,))
        other = push(place, "arm", days_ago=1, layers=(base, repository.encode()), architecture="arm64")
        push_index(place, "both", other)
    push(Place(registry, "rp-quarantine/team/a"), "v0", days_ago=9)  # set aside, and still on the disk
    result = chain.cost()
    told = subprocess.run(
        ["du", "--bytes", "--summarize", tmp_path / "shelf" / "blobs"], capture_output=True, check=True, text=True
    )
    folders = [path for path in (tmp_path / "shelf" / "blobs").rglob("*") if path.is_dir()] + [
        tmp_path / "shelf" / "blobs"
    ]
    assert result.facts["bytes"] == int(told.stdout.split()[0]) - sum(path.stat().st_size for path in folders)
    assert (chain.config.state / "report" / "cost" / f"{datetime.now(UTC):%Y-%m-%d}.parquet").is_file()
    (month,) = result.tables["months"]
    assert (month["of"], month["fair_bytes"]) == ("all", result.facts["bytes"])


def test_an_embedded_registry_keeps_a_layer_in_each_repository_but_for_what_was_mounted(tmp_path: Path) -> None:
    """GNU du beside it, which counts what is linked twice once."""
    about = f"registries: {{here: {{kind: embedded, port: {free_ports(1)[0]}, root: here}}}}\n"
    chain = Chain(load(configured(tmp_path, registries=about)))
    base, repositories = bytes(range(256)) * 400, ("team/a", "team/b")
    with ensure_registries(chain.config):
        registry = chain.registry("here")
        for repository in repositories:
            push(Place(registry, repository), "v1", days_ago=1, layers=(base,))
        found = chain.cost(by="repository")
        assert found.facts["bytes"] == blobs_of(tmp_path / "here") > 2 * len(base)
        assert sum(int(row["freed_bytes"]) for row in found.rows) == found.facts["bytes"]
        place = Place(registry, "team/c")
        assert registry.mount_blob(place.repository, Digest.of(base), source="team/a")
        push(place, "v1", days_ago=1, layers=(base,))
        mounted = chain.cost(by="repository")
        assert mounted.facts["bytes"] == len(base) + blobs_of(tmp_path / "here")
        assert any("those that were mounted, too; at most this" in each for each in mounted.notes)


def blobs_of(folder: Path) -> int:
    told = subprocess.run(
        ["find", folder, "-path", "*/blobs/*/*", "-type", "f", "-printf", "%i %s\\n"], capture_output=True, text=True
    )
    return sum(int(line.split()[1]) for line in set(told.stdout.splitlines()))


def test_what_could_not_be_read_is_said_and_the_rest_is_told(tmp_path: Path) -> None:
    config = configured(
        tmp_path, registries="registries:\n  gone: {kind: layout, root: gone}\n  shelf: {kind: layout, root: shelf}\n"
    )
    push(Place(Chain(load(config)).registry("shelf"), "app"), "v1", days_ago=1)
    (tmp_path / "gone" / "app").mkdir(parents=True)
    (tmp_path / "gone" / "app" / "oci-layout").write_text("{")
    (tmp_path / "gone" / "app" / "index.json").write_text("{")
    found = cost(config, code=7)
    assert found["reasons"] and found["facts"]["images"] == 1
    priced = [{"id": f"own/{name}/storage", "usd": 1.0, "per": "GB-month", "what": ""} for name in ("gone", "shelf")]
    more = f"report: {{prices: {book(tmp_path, prices=priced)}, budget: {{total: 1000}}}}\n"
    config.write_text(config.read_text() + more)
    partly = (chain := Chain(load(config))).cost()
    assert "at least 0.00 USD a month" in partly.action
    assert chain.over_budget(partly) == [
        "what all registries costs is not known, so that it may be above its budget of 1000"
    ]
    assert "not all could be read" in found["tables"]["months"][0]["doubt"] or found["tables"]["months"][0]["doubt"]


def report(day: str, size: int, *, usd: float | None = 1.0, whole: bool = True) -> CostReport:
    row = CostRow(
        level="total", name="all", images=1, needed_bytes=size, fair_bytes=size, freed_bytes=size, unpriced_bytes=0,
        usd=usd, freed_usd=usd, scan_usd=0.0,
    )  # fmt: skip
    time = datetime.fromisoformat(f"{day}T03:00:00+00:00")
    return CostReport(
        time=time, currency="USD", prices_of="", whole=whole, total=row, registries=(), teams=(), repositories=(),
        images=(), classes=(),
    )  # fmt: skip


def test_months_are_told_by_their_last_run_and_a_run_of_the_future_is_left_out(tmp_path: Path) -> None:
    for day, size in (("2026-09-30", 1), ("2026-10-01", 2), ("2026-10-31", 3), ("2026-11-05", 4)):
        write_run(FolderDocuments(tmp_path), report(day, size))
    write_run(FolderDocuments(tmp_path), report("2026-11-05", 5, usd=None, whole=False))  # the same day again
    write_run(FolderDocuments(tmp_path), report("2031-01-01", 99))
    (tmp_path / "2026-11-06.parquet").write_bytes(b"PAR1 torn")
    pq.write_table(pa.table({"other": [1]}), tmp_path / "2026-11-07.parquet")
    (tmp_path / "notes.txt").write_text("not ours")
    runs, left = read_runs(FolderDocuments(tmp_path), datetime(2026, 11, 29, tzinfo=UTC))
    assert [(each.month, each.fair_bytes, each.usd, each.whole) for each in months(runs, 2)] == [
        ("2026-10", 3, 1.0, True), ("2026-11", 4, 1.0, True),
    ], "a run that could not read all takes nobody's place"  # fmt: skip
    write_run(FolderDocuments(tmp_path), report("2026-11-28", 6, usd=None, whole=False))
    write_run(FolderDocuments(tmp_path), report("2026-08-28", 7, usd=None, whole=False))
    runs, _ = read_runs(FolderDocuments(tmp_path), datetime(2026, 11, 29, tzinfo=UTC))
    found = {each.month: (each.fair_bytes, each.whole) for each in months(runs, 9)}
    assert found["2026-11"] == (4, True) and found["2026-08"] == (7, False)
    assert "the run of 2031-01-01 is of a time that is still to come" in left
    assert sum("cannot be read" in each for each in left) == 2 and len(left) == 3
    assert months(runs, 0) == [] and read_runs(FolderDocuments(tmp_path / "none"), AT)[0].num_rows == 0


def test_an_inventory_of_many_row_groups_is_read_whole(tmp_path: Path) -> None:
    config = configured(tmp_path)
    path = stored(
        tmp_path, ecr(*(image("app", f"v{at}", {"base": 100, f"{at}": 1}, registry="ecr") for at in range(7)))
    )
    for file in (path, tmp_path / "stored.parts.parquet"):
        pq.write_table(pq.read_table(file), file, row_group_size=2)
    found = cost(config, "--from", path)
    assert found["facts"]["bytes"] == 107 and not any("at most" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("blobs", "sizes", "said"),
    [([b"short"], [1], "no digest"), ([bytes(32)], [1, 2], "without a size"), ([bytes(32)], [None], "without a size"),
     ([None], [1], "without a size")],
)  # fmt: skip
def test_a_second_file_that_is_damaged_is_refused(
    blobs: list[bytes | None], sizes: list[int | None], said: str, tmp_path: Path
) -> None:
    path = stored(tmp_path, ecr(image("app", "v1", {"a": 1}, registry="ecr")))
    second = tmp_path / "stored.parts.parquet"
    table = pq.read_table(second)
    for name, value, kind in (("blobs", blobs, pa.binary()), ("sizes", sizes, pa.int64())):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array([value], type=pa.list_(kind)))
    pq.write_table(table, second)
    command = ["report", "cost", "--from", str(path), "--config", str(configured(tmp_path))]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 8 and said in done.output, done.output


def test_files_that_are_not_of_one_another_and_registries_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    config = configured(tmp_path)
    path = stored(tmp_path, ecr(image("app", "v1", {"a": 1}, registry="ecr")))
    other = tmp_path / "other.parquet"
    ecr(image("app", "v2", {"a": 1}, registry="ecr")).write(other)
    (tmp_path / "stored.parts.parquet").write_bytes((tmp_path / "other.parts.parquet").read_bytes())
    done = CliRunner().invoke(main, ["report", "cost", "--from", str(path), "--config", str(config)])
    assert done.exit_code == 8 and "are not of one another" in done.output
    shelf([image("app", "v1", {"a": 1}, registry="unknown")]).write(path)
    done = CliRunner().invoke(main, ["report", "cost", "--from", str(path), "--config", str(config)])
    assert done.exit_code == 8 and "no registry of the configuration" in done.output
    done = CliRunner().invoke(main, ["report", "cost", "ecr", "--from", str(path), "--config", str(config)])
    assert done.exit_code == 8 and "Leave their names away" in done.output
    with pytest.raises(ConfigInvalid, match="team"):
        load(configured(tmp_path, "report: {budget: {teams: {vision: 5}}}"))
    with pytest.raises(ConfigInvalid, match="bills scans"):
        load(configured(tmp_path, "report: {scans: {own: {}}}"))
    with pytest.raises(InputError, match="no currency"):
        Chain(load(configured(tmp_path))).prices(book(tmp_path, currency=""))


def test_the_price_book_says_what_is_missing_old_and_unsure(tmp_path: Path) -> None:
    config = configured(tmp_path)
    found = answered(CliRunner().invoke(main, ["report", "prices", "--json", "--config", str(config)]).stdout)
    assert found["facts"]["date"] == "2026-03-01" and found["facts"]["missing"] == 0
    assert any(each.startswith("aws/ecr/storage: of 2026-03-01") and "us-east-1" in each for each in found["alerts"])
    prices = book(tmp_path, prices=BOOK["prices"][:2])
    found = answered(
        CliRunner()
        .invoke(main, ["report", "prices", "--prices", str(prices), "--json", "--config", str(config)])
        .stdout
    )
    assert "no price aws/ecr/archive (of eu-west-1)" in found["reasons"] and "no price gcp/scan" in found["reasons"]
    assert not any("aws/ecr/storage" in each for each in found["alerts"])


def test_an_inventory_that_is_not_whole_makes_no_whole_report(tmp_path: Path) -> None:
    rows = Rows()
    rows.add(image("app", "v1", {"a": 1}, registry="ecr"))
    source = Source(registry="ecr", kind="ecr", answered=AT, complete=False, unread=(Unread("team", "Forbidden: no"),))
    found = cost(configured(tmp_path), "--from", stored(tmp_path, rows.inventory([source])), code=7)
    assert found["reasons"] == ["ecr: team: Forbidden: no"]
