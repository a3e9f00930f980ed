"""What-ifs over registries that are there, and what they promised against what really happened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.chain.keys import Keyring
from registry_pipelines.cli import main
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.start_report import StartReport, attach_report
from tests.answers import answered
from tests.chain.fleet import Fleet, start
from tests.chain.test_bases import DEBIAN, OTHER, push_app, push_base, python
from tests.chain.test_rechunk import pushed, rechunked
from tests.cli.on_fleet import answer, run
from tests.collect.test_garbage import grow_old
from tests.collect.test_retention import push
from tests.doubles.aws.front import AwsDouble
from tests.inventory.clouds import DAY_S, ecr_place, put, written

GB = 10**9
BOOK = {
    "currency": "EUR",
    "date": "2026-11-01",
    "source": "ours",
    "prices": [
        {"id": "own/us/storage", "usd": 1000.0, "per": "GB-month", "what": "disks"},
        {"id": "other/out", "usd": 2.0, "per": "GB", "what": "out"},
        {"id": "aws/nat", "usd": 3.0, "per": "GB", "what": "nat"},
        {"id": "aws/ecr/storage", "usd": 0.1, "per": "GB-month", "what": "stored"},
        {"id": "aws/same-region", "usd": 0.0, "per": "GB", "what": "home"},
    ],
}


@pytest.fixture
def book(tmp_path: Path) -> Path:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(BOOK))
    return file


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield start(tmp_path, stack)


def held_on_disk(fleet: Fleet) -> int:
    return sum(path.stat().st_size for path in folder(fleet).rglob("blobs/*/*"))


def folders(tmp_path: Path) -> Path:
    """A configuration of registries that nobody serves."""
    config = tmp_path / "registry-pipelines.yaml"
    config.write_text("registries: {us: {kind: layout, root: us}, eu: {kind: layout, root: eu}}\n")
    return config


def folder(fleet: Fleet) -> Path:
    return fleet.path.parent / ".registry-pipelines" / "registries" / "us"


# Retention


@pytest.mark.parametrize("way", ["registry", "rules", "inventory"])
def test_what_was_promised_of_a_rule_is_what_collect_frees(fleet: Fleet, book: Path, tmp_path: Path, way: str) -> None:
    place, other = fleet.chain.place("app"), Place(fleet.chain.place("app").registry, "team/other")
    shared = b"s" * 70_000
    push(place, "v1", days_ago=90, layers=(b"a" * 100_000, shared))
    push(place, "v2", days_ago=80, layers=(b"b" * 30_000, shared))
    push(place, "v3", days_ago=70, layers=(b"c" * 20_000, shared))
    push(other, "w1", days_ago=90)  # of a repository that no rule names
    rules = "retention: [{registry: us, repositories: [team/app], keep_newest: 1, keep_days: 0}]\n"
    told = ["--prices", str(book)]
    if way == "rules":
        (tmp_path / "rules.yaml").write_text(rules)
        asked = answer(fleet, "report", "what-if", "retention", "us", "--rules", str(tmp_path / "rules.yaml"), *told)
        assert fleet.chain.registries_with_rules() == []
    fleet.reload(("signing:", f"collect: {{quarantine: 0, recent: 0s}}\n{rules}signing:"))
    if way == "inventory":
        answer(fleet, "inventory", "us", "--output", str(tmp_path / "us.parquet"))
        told += ["--from", str(tmp_path / "us.parquet")]
    if way != "rules":
        asked = answer(fleet, "report", "what-if", "retention", "us", *told)
    before = held_on_disk(fleet)
    assert asked["facts"]["held_bytes"] == before and asked["facts"]["going"] == 2
    assert 130_000 < asked["facts"]["freed_bytes"] < 135_000  # not what v3 has
    assert asked["facts"]["saved_usd_per_month"] == round(asked["facts"]["freed_bytes"] / GB * 1000, 2)
    assert held_on_disk(fleet) == before and set(place.registry.tags("team/app")) == {"v1", "v2", "v3"}
    planned, applied = answer(fleet, "collect", "apply", "us", "--now")
    assert planned["facts"]["freed_bytes"] == applied["facts"]["freed_bytes"] == asked["facts"]["freed_bytes"]
    grow_old(folder(fleet))
    run(fleet, "collect", "garbage", "us")
    assert before - held_on_disk(fleet) == asked["facts"]["freed_bytes"]


def test_without_a_price_bytes_are_told_and_money_is_not_known(fleet: Fleet) -> None:
    push(fleet.chain.place("app"), "v1", days_ago=90)
    rules = "retention: [{registry: us, keep_newest: 0, keep_days: 0}]\n"
    fleet.reload(("signing:", f"{rules}report: {{teams: {{vision: ['team/*']}}}}\nsigning:"))
    found = answer(fleet, "report", "what-if", "retention", "us")
    assert [(row["team"], row["going"]) for row in found["tables"]["team"]] == [("vision", 1)]
    assert "not known: the price book has no own/us/storage" in found["reasons"]
    assert [row["usd_per_month"] for row in found["rows"]] == [""] * 3 and not found["facts"]["sure"]
    assert any("for 14 days" in row["why"] for row in found["rows"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("retention: [{registry: us, keep_latest: 1}]\n", "keep_latest"),
        ("retention: [{registry: nowhere}]\n", "nowhere"),
        ("images: {}\n", "only `retention` is read here"),
        ("retention: [{registry: eu}]\n", "no retention rule names us"),
        ("[]\n", "has no `retention`"),
        ("", "has no `retention`"),
    ],
)
def test_rules_that_are_none_are_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "rules.yaml").write_text(text)
    told = ["report", "what-if", "retention", "us", "--rules", str(tmp_path / "rules.yaml")]
    result = CliRunner().invoke(main, [*told, "--config", str(folders(tmp_path))])
    assert result.exit_code == 8 and says in result.output


# Replica, archive


def image(*layers: tuple[int, int]) -> bytes:
    """Layers by number and bytes."""
    listed = [
        {"mediaType": media_types.OCI_LAYER_GZIP, "digest": f"sha256:{number:064x}", "size": size}
        for number, size in layers
    ]
    config = {
        "mediaType": media_types.OCI_CONFIG,
        "digest": f"sha256:{9000 + sum(n for n, _ in layers):064x}",
        "size": 0,
    }
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": config, "layers": listed}
    return json.dumps(document).encode()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsDouble]:
    with AwsDouble() as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        yield double


def ask(config: Path, *more: str, code: int = 0) -> Any:
    done = CliRunner().invoke(main, ["report", "what-if", *more, "--json", "--quiet", "--config", str(config)])
    assert done.exit_code == code, done.output
    return answered(done.stdout)


EDGE = "report: {edges: {us: {registry: ecr, region: us-east-1, through: nat}}}\n"


def test_a_replica_of_what_ecr_holds_counts_shared_layers_once(aws: AwsDouble, tmp_path: Path) -> None:
    place, now = ecr_place(aws), aws.clock()
    for number in range(10):
        put(place, "team/app", image((1, 3 * GB), (100 + number, GB)), f"v{number}", at=now)
    config = written(tmp_path, aws, more=EDGE)
    stored = tmp_path / "ecr.parquet"
    taken = ["inventory", "ecr", "--manifests", "all", "--output", str(stored), "--config", str(config), "--quiet"]
    assert CliRunner().invoke(main, taken).exit_code == 0
    pulls, svg = tmp_path / "pulls.csv", tmp_path / "even.svg"
    pulls.write_text("registry,repository,pulls\necr,team/app,304\n")
    more = ["--pulls", str(pulls), "--days", "30", "--moved", "40GB", "--svg", str(svg), "--from", str(stored)]
    found = ask(config, "replica", "ecr", "us-east-1", *more)
    facts = found["facts"]
    # 3 GB + 10 x 1 GB, and ten manifests of some hundred bytes; pulls of 4 GB over NAT on both ways.
    assert 13 * GB < facts["held_bytes"] < 13 * GB + 10_000
    assert facts["pull_bytes"] == pytest.approx(4 * GB, abs=2000)
    assert facts["pulls_per_month"] == pytest.approx(304 * 30.4 / 30, abs=0.1)
    assert facts["break_even_pulls_per_month"] == pytest.approx((13 * 0.1 + 40 * 0.02) / (4 * 0.02), abs=0.1)
    assert "26 pulls of 4.0 GB" in found["action"] and "less a month" in found["action"]
    assert ">26<" in svg.read_text()
    given = ask(
        config,
        *("replica", "ecr", "us-east-1", "--size", "5GB", "--held", "2500GB", "--moved", "0GB", "--times", "2500"),
        *("--through", "public"),
    )
    assert given["facts"]["break_even_pulls_per_month"] == 2500.0


def test_pulls_that_may_be_of_the_region_make_them_unknown_and_those_of_others_do_not(
    aws: AwsDouble, tmp_path: Path
) -> None:
    put(ecr_place(aws), "team/app", image((1, 4 * GB)), "v1", at=aws.clock())
    edges = "us: {registry: ecr, region: us-east-1, through: nat, repositories: [team/app]}"
    more = "at: {registry: ecr, region: eu-west-1, through: s3-gateway, repositories: [team/gone]}"
    config = written(tmp_path, aws, more=f"report: {{edges: {{{edges}, {more}}}}}\n")
    pulls = tmp_path / "pulls.csv"
    given = ["replica", "ecr", "us-east-1", "--held", "4GB", "--moved", "0GB", "--pulls", str(pulls), "--days", "30"]
    pulls.write_text("registry,repository,pulls\necr,team/app,300\necr,team/gone,5\n")
    assert ask(config, *given)["facts"]["pulls_per_month"] == pytest.approx(304)
    pulls.write_text("registry,repository,pulls\necr,team/app,300\necr,elsewhere,5\n")
    found = ask(config, *given)
    assert "pulls_per_month" not in found["facts"]
    assert any("elsewhere: no edge of `report.edges` says who pulls it" in each for each in found["reasons"])


def test_the_picture_and_the_figures_of_the_page_are_those_of_the_command(aws: AwsDouble, tmp_path: Path) -> None:
    images, drawn = Path(__file__).parents[2] / "docs" / "images", tmp_path / "even.svg"
    given = ["--size", "5GB", "--held", "2500GB", "--moved", "100GB", "--times", "4000", "--svg", str(drawn)]
    found = ask(written(tmp_path, aws), "replica", "ecr", "us-east-1", *given)
    assert drawn.read_text() == (images / "break-even.svg").read_text()
    assert found["action"] in (images.parent / "cost.md").read_text()
    assert not aws.calls  # with all figures given nothing is asked


def test_what_nobody_knows_of_a_replica_is_named(aws: AwsDouble, tmp_path: Path) -> None:
    put(ecr_place(aws), "team/app", image((1, GB)), "v1", at=aws.clock())
    config = written(tmp_path, aws)
    found = ask(config, "replica", "ecr", "us-east-1")
    assert found["action"].startswith("the break-even is not known: ")
    assert any("give --moved" in each for each in found["reasons"])
    assert any("no edge of `report.edges` is of that region" in each for each in found["reasons"])
    drawn = ["report", "what-if", "replica", "ecr", "us-east-1", "--svg", str(tmp_path / "x.svg")]
    assert CliRunner().invoke(main, [*drawn, "--config", str(config), "--quiet"]).exit_code == 8
    assert not (tmp_path / "x.svg").exists()
    for region, says in (("eu-west-1", "is in eu-west-1 itself"), ("mars", "no region")):
        done = CliRunner().invoke(main, [*drawn[:4], region, "--config", str(config), "--quiet"])
        assert done.exit_code == 8 and says in done.output


def test_the_archive_takes_what_no_image_needs_that_stays(aws: AwsDouble, tmp_path: Path) -> None:
    place, now = ecr_place(aws), aws.clock()
    put(place, "team/app", image((1, 3 * GB), (2, GB)), "old", at=now - 200 * DAY_S)
    put(place, "team/app", image((1, 3 * GB), (3, GB)), "older", at=now - 300 * DAY_S)
    put(place, "team/app", image((4, 7 * GB)), "oldest", at=now - 400 * DAY_S)
    put(place, "team/app", image((1, 3 * GB), (5, GB)), "new", at=now - DAY_S)
    used = put(place, "team/app", image((6, GB)), "used", at=now - 400 * DAY_S)
    place.repositories["team/app"].images[used.digest].pulled_at = now - DAY_S
    config = written(tmp_path, aws)
    listed = ask(config, "archive", "ecr")
    # Nothing but lists is read: to ECR reading a manifest is a pull, and all would seem used from now on.
    assert ask(config, "archive", "ecr")["facts"] == listed["facts"]
    assert (listed["facts"]["images"], listed["facts"]["archivable_bytes"]) == (3, 15 * GB)
    assert [row["usd_per_month"] for row in listed["rows"]] == ["", ""]
    assert "an archived GB costs less only above 153.6 TB" in listed["action"]
    assert any("which layers images share" in each for each in listed["reasons"])
    late = ask(config, "archive", "ecr", "--unpulled-days", "350")
    assert late["facts"]["images"] == 1
    stored = tmp_path / "ecr.parquet"
    taken = ["inventory", "ecr", "--manifests", "all", "--output", str(stored), "--config", str(config), "--quiet"]
    assert CliRunner().invoke(main, taken).exit_code == 0
    found = ask(config, "archive", "ecr", "--from", str(stored))
    assert found["facts"]["images"] == 3
    assert found["facts"]["archivable_bytes"] == pytest.approx(9 * GB, abs=2000)  # the base of 3 GB stays
    assert found["facts"]["saved_usd_per_month"] == 0


def test_where_nothing_counts_pulls_that_is_said_and_copies_are_looked_at_all_the_same(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    push(place, "v1.0.0", days_ago=60, layers=(b"a" * 10_000, b"s" * 5_000))
    push(place, "v1.1.0", days_ago=50, layers=(b"b" * 30_000, b"s" * 5_000))
    found = answer(fleet, "report", "transfer")
    rows = {row["edge"]: row for row in found["rows"]}
    assert set(rows) == {"us -> eu", "us -> gcp"}
    # A release in ten days, which moved 30 kB and what is its own; what both have was there.
    assert rows["us -> eu"]["times_per_month"] == pytest.approx(3.0, abs=0.1)
    assert 30_000 * 3.04 < rows["us -> eu"]["bytes_per_month"] < 31_000 * 3.04
    assert any("no registry is of kind ecr" in note for note in found["notes"])


def test_only_ecr_has_an_archive(tmp_path: Path) -> None:
    told = ["report", "what-if", "archive", "us", "--config", str(folders(tmp_path))]
    assert "not of kind ecr" in CliRunner().invoke(main, told).output


# Images


def test_moving_a_base_is_what_rebuilding_comes_to(fleet: Fleet, book: Path) -> None:
    place = Place(fleet.chain.place("app").registry, "bases/python")
    old, _ = push_base(fleet, "3.11"), push_app(fleet, "v1.0.0", DEBIAN, python("3.11"), OTHER)
    push_app(fleet, "v1.0.0", DEBIAN, python("3.11"), image="tool")
    new = push_base(fleet, "3.12")
    asked = answer(
        fleet, "report", "what-if", "base", f"us/bases/python@{old.digest}", "us/bases/python:3", "--prices", str(book)
    )
    facts = asked["facts"]
    assert (facts["images"], facts["moving"]) == (2, 2)
    sizes = {each.digest: each.size for one in (old, new) for each in layers(place, str(one.digest))}
    assert facts["common_bytes"] == next(each.size for each in layers(place, str(new.digest)))
    assert facts["pushed_bytes_at_least"] == 2 * layers(place, str(new.digest))[1].size
    # Rebuilt, and counted on the registry itself.
    push_app(fleet, "v2.0.0", DEBIAN, python("3.12"), OTHER)
    push_app(fleet, "v2.0.0", DEBIAN, python("3.12"), image="tool")
    held: dict[str, int] = {}
    for name in ("app", "tool"):
        held |= {each.digest: each.size for each in layers(fleet.chain.place(name), "v2.0.0")}
    assert sum(held.values()) == pytest.approx(facts["held_bytes_after"], abs=30) and sizes


def layers(place: Place, selector: str) -> Any:
    return place.registry.get_manifest(place.repository, selector).content().layers  # type: ignore[union-attr]


def test_a_base_that_is_no_image_or_the_same(fleet: Fleet) -> None:
    push_base(fleet, "3.11")
    told = ["report", "what-if", "base", "us/bases/python:3", "us/bases/python:3", "--config", str(fleet.path)]
    assert "are one image" in CliRunner().invoke(main, told).output


def test_what_a_rechunk_was_planned_to_move_is_what_it_moves(fleet: Fleet, book: Path) -> None:
    pushed(fleet, "v1.0.0")
    pushed(fleet, "v1.1.0", bumped=2)
    told = ["report", "what-if", "rechunk", "app", "--prices", str(book)]
    plan = answer(fleet, *told)
    assert not plan["facts"]["measured"] and plan["facts"]["moved_bytes_now"] > 1_300_000
    chain = rechunked(fleet)
    for tag in ("v1.0.0", "v1.1.0"):
        chain.rechunk("app", tag)
    found = answer(fleet, *told)
    assert found["facts"]["measured"]
    # numpy was bumped, and neither torch nor the application.
    assert found["facts"]["moved_bytes_then"] == pytest.approx(400_000, rel=0.1)
    assert plan["facts"]["moved_bytes_then"] == pytest.approx(found["facts"]["moved_bytes_then"], rel=0.1)
    assert plan["facts"]["moved_bytes_now"] == found["facts"]["moved_bytes_now"]
    assert plan["facts"]["held_bytes_then"] == pytest.approx(found["facts"]["held_bytes_then"], rel=0.1)
    assert found["rows"][0]["usd_per_month"] == round(found["facts"]["held_bytes_now"] / GB * 1000, 2)


STREAM = "report: {edges: {rack: {registry: us, through: public}}}\nsigning:"


def test_streaming_counts_what_a_signed_measurement_fetched(fleet: Fleet, book: Path) -> None:
    release = fleet.release("v1.0.0")
    fleet.reload(("signing:", STREAM))
    told = ["report", "what-if", "streaming", "app", "--prices", str(book), "--times", "1000"]
    before = answer(fleet, *told)
    full = before["facts"]["full_bytes"]
    assert "not known: no start of it was measured (`stream measure`)" in before["reasons"]
    assert before["rows"][0]["usd_per_month"] == round(full * 1000 / GB * 2, 2)
    place = fleet.chain.place("app")
    report = StartReport(
        image=Digest.parse(str(release.digest)),
        release=Digest.parse(str(release.digest)),
        started_s=0.1,
        result_s=0.2,
        until="end",
        starts=3,
        pack="",
        pack_bytes=0,
        fetched_bytes=full // 4,
        machine="here",
        carrier="fuse",
        tool="test",
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    signer = Keyring(fleet.chain.config).signer("indexer")
    attach_report(place, place.registry.resolve(place.repository, str(release.digest)), report, signer)
    found = answer(fleet, *told)
    assert found["facts"]["read_bytes"] == full // 4
    rows = {row["case"]: row["usd_per_month"] for row in found["rows"]}
    assert rows["streamed, what starts read"] == round((full // 4) * 1000 / GB * 2, 2)
    assert rows["streamed, and filled"] == rows["pulled whole"]
    uncounted = answer(fleet, *told[:-2])
    assert any("nothing counts its pulls" in note for note in uncounted["notes"])
    assert "not known: how often it is pulled is not known" in uncounted["reasons"]
