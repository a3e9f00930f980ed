"""The arithmetic of pulls against figures worked out by hand, and a price book that is somebody else's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.cli import main
from registry_pipelines.errors import InputError
from registry_pipelines.report.advice import Nodes, Origin, advise, cloud_of
from registry_pipelines.report.prices import FilePrices
from tests.answers import answered

BOOK = FilePrices()
GAR = Origin(name="europe-west1-docker.pkg.dev", cloud="gcp", region="europe-west1")
ECR = Origin(name="111122223333.dkr.ecr.eu-west-1.amazonaws.com", cloud="aws", region="eu-west-1")


def eks(region: str = "eu-west-1", *, pulls: float = 100, private: bool = True) -> Nodes:
    return Nodes(cloud="aws", region=region, pulls_per_day=pulls, private=private)


def test_eks_never_pulls_straight_from_artifact_registry() -> None:
    ways = advise(eks(), GAR, BOOK, image_bytes=5 * 10**9, releases_per_month=20)
    by_name = {each.name: each for each in ways}
    straight = by_name["straight from europe-west1-docker.pkg.dev"]
    assert straight.never
    # 5 GB x 100 pulls x 30.4 days = 15,200 GB; out of Google 0.12, through NAT 0.045.
    assert straight.usd == pytest.approx(15_200 * (0.12 + 0.045))
    assert ways[0].advised
    assert ways[0].name == "a replica in ECR, eu-west-1 by the S3 gateway endpoint"
    # 20 releases of 5 GB cross once; 10 are kept at 0.10.
    assert ways[0].usd == pytest.approx(100 * 0.12 + 50 * 0.10)
    by_nat = by_name["a replica in ECR, eu-west-1, through NAT"]
    assert by_nat.usd == pytest.approx(100 * 0.12 + 50 * 0.10 + 15_200 * 0.045)
    assert straight.arithmetic() == "15200.0 GB x 0.12 (gcp/internet?) + 15200.0 GB x 0.045 (aws/nat?) = 2508.00"
    assert ways[-1] is straight


def test_in_the_same_region_the_gateway_leads_past_nat() -> None:
    ways = advise(eks(), ECR, BOOK, image_bytes=10**9, releases_per_month=1)
    assert [(each.name.partition(".")[0], round(each.usd, 2)) for each in ways] == [
        ("111122223333", 0.0),
        ("straight from 111122223333", round(3040 * 0.045, 2)),
    ]
    (public,) = advise(eks(private=False), ECR, BOOK, image_bytes=10**9, releases_per_month=1)
    assert (public.usd, public.advised) == (0.0, True)


def test_what_is_pulled_less_than_released_is_not_copied() -> None:
    ways = advise(eks("us-east-1", pulls=0.01), ECR, BOOK, image_bytes=10**9, releases_per_month=300)
    assert ways[0].name.startswith("straight from")
    assert not ways[0].never


def test_nodes_in_the_multi_region_of_artifact_registry_are_at_home() -> None:
    nodes = Nodes(cloud="gcp", region="europe-west4", pulls_per_day=10)
    origin = Origin(name="europe-docker.pkg.dev", cloud="gcp", region="europe")
    assert [each.usd for each in advise(nodes, origin, BOOK, image_bytes=10**9, releases_per_month=1)] == [0.0]


def test_a_pair_of_regions_has_its_own_price(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    document = json.loads((Path(__file__).parents[2] / "registry_pipelines" / "data" / "prices.json").read_text())
    document["prices"].append({"id": "aws/regions/eu-west-1/ap-south-1", "usd": 0.5, "per": "GB", "what": "ours"})
    file.write_text(json.dumps(document))
    ways = advise(eks("ap-south-1", private=False), ECR, FilePrices(file), image_bytes=10**9, releases_per_month=0)
    assert {each.name: round(each.usd) for each in ways}["straight from " + ECR.name] == 1520
    document["prices"] = [each for each in document["prices"] if each["id"] != "aws/nat"]
    file.write_text(json.dumps(document))
    with pytest.raises(InputError, match="no aws/nat"):
        advise(eks(), GAR, FilePrices(file), image_bytes=1, releases_per_month=1)


@pytest.mark.parametrize(
    "change",
    [
        {"prices": [{"id": "x", "usd": -1, "per": "GB", "what": ""}]},
        {"prices": [{"id": "x", "usd": 1, "per": "piece", "what": ""}]},
        {"prices": [{"id": "aws/nat", "usd": 0.045, "per": "scan", "what": ""}]},
        {"prices": [{"id": "aws/regions/eu-west-1/us-east-1", "usd": 0.02, "per": "GB-month", "what": ""}]},
        {"prices": [{"id": "aws/ecr/storage/eu-west-1", "usd": 0.1, "per": "GB", "what": ""}]},
        {"prices": [{"id": "own/prod/storage", "usd": 0.1, "per": "request", "what": ""}]},
        {"prices": [{"id": "aws/inspector/rescan", "usd": 0.1, "per": "GB", "what": ""}]},
        {"prices": [{"id": "x", "usd": 1, "per": "GB", "what": ""}] * 2},
        {"prices": [{"id": "x", "usd": "free", "per": "GB", "what": ""}]},
        {"more": 1},
        {"date": "yesterday"},
    ],
)
def test_what_is_no_price_book(change: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"currency": "USD", "date": "2026-01-01", "source": "x", "prices": [], **change}))
    with pytest.raises(InputError):
        FilePrices(file)


def test_the_book_says_how_old_it_is_and_whose() -> None:
    assert BOOK.date.isoformat() == "2026-03-01"
    assert "third-party" in BOOK.source


def test_the_command_prints_the_arithmetic_and_draws_it(tmp_path: Path) -> None:
    arguments = ["advise", "europe-west1-docker.pkg.dev", "--nodes", "eu-west-1", "--size", "5GB", "--pulls", "100"]
    shown = CliRunner().invoke(main, [*arguments, "--svg", str(tmp_path / "a.svg")], env={"COLUMNS": "250"})
    assert shown.exit_code == 0, shown.output
    assert "15200.0 GB x 0.12 (gcp/internet?) + 15200.0 GB x 0.045 (aws/nat?) = 2508.00" in shown.output
    assert "never" in shown.output
    assert "2026-03-01" in shown.output
    picture = (tmp_path / "a.svg").read_text()
    assert picture.startswith("<svg")
    assert "2508.00" in picture
    found = answered(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert [each["verdict"] for each in found["ways"]] == ["take this", "", "never"]


@pytest.mark.parametrize("arguments", [["x.example.com", "--nodes", "mars"], ["x.example.com", "--nodes", "eu-west-1"],
                                       ["x.example.com", "--nodes", "eu-west-1", "--size", "much"]])  # fmt: skip
def test_bad_questions(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, ["advise", *arguments]).exit_code == 8


@pytest.mark.parametrize(
    ("region", "cloud"),
    [("eu-west-1", "aws"), ("us-gov-west-1", "aws"), ("europe-west1", "gcp"), ("us-central1", "gcp")],
)
def test_a_region_tells_its_cloud(region: str, cloud: str) -> None:
    assert cloud_of(region) == cloud


@given(
    size=st.integers(1, 10**12),
    pulls=st.floats(0, 10**5),
    releases=st.floats(0, 10**4),
    cloud=st.sampled_from(["aws", "gcp"]),
    origin=st.sampled_from([GAR, ECR, Origin(name="docker.io", cloud="other")]),
    private=st.booleans(),
)
def test_the_advised_way_is_the_cheapest_that_may_be_taken(
    size: int, pulls: float, releases: float, cloud: Any, origin: Origin, private: bool
) -> None:
    region = "eu-west-1" if cloud == "aws" else "europe-west1"
    nodes = Nodes(cloud=cloud, region=region, pulls_per_day=pulls, private=private)
    ways = advise(nodes, origin, BOOK, image_bytes=size, releases_per_month=releases)
    assert [each.advised for each in ways] == [True] + [False] * (len(ways) - 1)
    assert all(ways[0].usd <= each.usd for each in ways if not each.never)
    assert all(each.never == (origin.cloud not in (cloud, "other") and "straight" in each.name) for each in ways)
