"""Price books made anew from doubles of AWS's Price List and Google's Cloud Billing Catalog, and from rubbish."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.cli import main
from registry_pipelines.registry.ecr.price_list import aws_list
from registry_pipelines.registry.gar.price_list import google_list
from registry_pipelines.registry.price_lists import Listed
from registry_pipelines.report.prices import OWN, FilePrices, Price, Tier
from registry_pipelines.report.refresh import AWS_RULES, GOOGLE_RULES, found_prices
from tests.answers import answered
from tests.doubles.aws.front import AwsDouble
from tests.doubles.aws.pricing import PriceList, product
from tests.doubles.google import GoogleCloud
from tests.doubles.google.billing import Catalog, sku
from tests.inventory.clouds import REGION, written

TODAY = date(2026, 11, 29)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsDouble]:
    with AwsDouble() as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        shelf = double.area(PriceList).products
        shelf["AmazonECR"] = [
            product("AmazonECR", "EUW1-TimedStorage-ByteHrs", "GB-Mo", ("0", "0.1100000000"), region=REGION),
            product("AmazonECR", "EUW1-DataTransfer-Out-Bytes", "GB", ("0", "0.09"), region=REGION),
            product("AmazonECR", "USW2-TimedStorage-ByteHrs", "GB-Mo", ("0", "0.5"), region="us-west-2"),
            product(
                "AmazonECR",
                "EUW1-Archive-TimedStorage-ByteHrs",
                "GB-Mo",
                ("0", "0.1"),
                ("153600", "0.07"),
                region=REGION,
            ),
        ]
        shelf["AmazonInspectorV2"] = [
            product(
                "AmazonInspectorV2",
                "EUW1-ECR-Scan",
                "Images",
                ("0", "0.09"),
                about="per container image initially scanned",
            ),
            product(
                "AmazonInspectorV2",
                "EUW1-ECR-Rescan",
                "Images",
                ("0", "0.01"),
                about="per automated re-scan of a container image",
            ),
            product("AmazonInspectorV2", "EUW1-CICD", "Images", ("0", "0.03"), about="per on-demand container image"),
        ]
        shelf["AmazonEC2"] = [
            product("AmazonEC2", "EU-NatGateway-Bytes", "GB", ("0", "0.048"), family="NAT Gateway"),
            product("AmazonEC2", "EU-BoxUsage:t3.micro", "Hrs", ("0", "0.0114"), family="Compute Instance"),
        ]
        shelf["AmazonS3"] = [
            product("AmazonS3", "EU-TimedStorage-ByteHrs", "GB-Mo", ("0", "0.023"), ("51200", "0.022")),
            product("AmazonS3", "EU-Requests-Tier1", "Requests", ("0", "0.0000050000")),
            product("AmazonS3", "EU-Requests-Tier2", "Requests", ("0", "0.0000004000")),
            product("AmazonS3", "EU-Requests-Tier2", "Requests", ("0", "0.0000009000")),
        ]
        shelf["AWSDataTransfer"] = [
            product("AWSDataTransfer", "EUW1-USE1-AWS-Out-Bytes", "GB", ("0", "0.02"), region="",
                    fromRegionCode=REGION, toRegionCode="us-east-1"),
            product("AWSDataTransfer", "EUW1-USE1-AWS-In-Bytes", "GB", ("0", "0.00"), region="",
                    fromRegionCode=REGION, toRegionCode="us-east-1"),
        ]  # fmt: skip
        double.area(PriceList).raw["AmazonECR"] = ["[]", "{", '{"product": {"attributes": {"usagetype": 7}}}']
        yield double


@pytest.fixture
def google(tmp_path: Path) -> Iterator[GoogleCloud]:
    with GoogleCloud(tmp_path / "google") as cloud:
        catalog = cloud.world.state(Catalog)
        catalog.names = {
            "6F81-5844-456A": "Compute Engine",
            "149C-F9EC-3994": "Artifact Registry",
            "AA-1": "Container Analysis",
        }
        catalog.skus["149C-F9EC-3994"] = [
            sku("Artifact Registry Network Internet Egress Europe", "GiBy", (0, "0", 120_000_000)),
            sku("Artifact Registry Storage", "GiBy.mo", (0, "0", 0), (0.5, "0", 100_000_000)),
            sku("Artifact Registry Storage commitment", "GiBy.mo", (0, "0", 1), usage="Commit1Yr"),
        ]
        catalog.skus["AA-1"] = [
            sku("Container Scanning", "count", (0, "0", 260_000_000), service="Container Analysis"),
            sku("On-Demand Scanning", "count", (0, "0", 260_000_000), service="Container Analysis"),
        ]
        yield cloud


def refresh(config: Path, *arguments: object, code: int = 0) -> dict[str, Any]:
    command = ["report", "prices", "--refresh", *map(str, arguments), "--json", "--config", str(config), "--quiet"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == code, done.output
    found: dict[str, Any] = answered(done.stdout)
    return found


def test_both_clouds_are_asked_and_a_whole_book_is_written(aws: AwsDouble, google: GoogleCloud, tmp_path: Path) -> None:
    config, own = written(tmp_path, aws, google), tmp_path / "books" / "prices.json"
    before = OWN.read_bytes()
    found = refresh(config, "--to", own)
    rows = {row["price"]: row for row in found["rows"]}
    today = datetime.now(UTC).date()
    book = FilePrices(own)
    assert book.price(f"aws/ecr/storage/{REGION}").usd == 0.11
    assert book.find("aws/ecr/storage", REGION) == book.price(f"aws/ecr/storage/{REGION}")
    assert book.price(f"aws/ecr/archive/{REGION}").tiers == (Tier(above=153600, usd=0.07),)
    assert book.price(f"aws/inspector/scan-first/{REGION}").usd == 0.09
    assert book.price(f"aws/inspector/rescan/{REGION}").usd == 0.01
    assert book.between("aws", REGION, "us-east-1").usd == 0.02
    assert book.price(f"aws/s3/put/{REGION}").cost(10**6) == pytest.approx(5)
    assert book.price(f"aws/nat/{REGION}").usd == 0.048
    gar = book.price("gcp/gar/storage")
    assert (gar.usd, gar.free, gar.per, gar.cost(3 << 29)) == (0.1, 0.5, "GiB-month", pytest.approx(0.1))
    assert book.price("gcp/scan").usd == 0.26 and rows["gcp/scan"]["before"] == 0.26
    assert gar.date == today and book.doubt(gar, today) == "" and "since 2026-11-15" in gar.source
    # What no list said keeps its date, and says so; two lines that may be it are none.
    assert book.doubt(book.price("aws/ecr/storage"), today) == "of 2026-03-01"
    assert book.find("aws/s3/get", REGION) == book.price("aws/s3/get")
    assert f"not refreshed: aws/s3/get ({REGION}): 2 lines of AmazonS3 may be it" in found["notes"]
    assert any("aws/ecr/archive-retrieval: no line of AmazonECR" in note for note in found["notes"])
    assert OWN.read_bytes() == before and not aws.broken and not google.world.problems
    assert {call.values["ServiceCode"] for call in aws.calls if call.service == "pricing"} == {
        "AmazonECR", "AmazonInspectorV2", "AmazonEC2", "AmazonS3", "AWSDataTransfer",
    }  # fmt: skip


def test_one_cloud_that_does_not_answer_is_said_and_the_other_is_written(
    aws: AwsDouble, google: GoogleCloud, tmp_path: Path
) -> None:
    config, own = written(tmp_path, aws, google), tmp_path / "prices.json"
    aws.deny("pricing:GetProducts")
    found = refresh(config, "--to", own, code=7)
    assert len(found["reasons"]) >= 1 and "pricing:GetProducts" in found["reasons"][0]
    assert FilePrices(own).price("gcp/scan").date == datetime.now(UTC).date()
    own.unlink()
    google.world.state(Catalog).names.clear()
    refresh(config, "--to", own, code=7)
    assert not own.exists()


def test_where_no_book_of_ones_own_is_named_or_no_cloud_is_configured_nothing_is_written(tmp_path: Path) -> None:
    config = tmp_path / "registry-pipelines.yaml"
    config.write_text("registries: {here: {kind: layout, root: content}}\n")
    assert "no book of your own" in refresh(config, code=8)["error"]["what"]
    assert "package's own" in refresh(config, "--to", OWN, code=8)["error"]["what"]
    assert "no cloud is asked" in refresh(config, "--to", tmp_path / "own.json", code=8)["error"]["what"]
    assert not (tmp_path / "own.json").exists()


def line(**change: Any) -> Listed:
    fields: dict[str, Any] = {
        "sku": "S", "service": "AmazonECR", "kind": "TimedStorage-ByteHrs", "text": "", "unit": "GB-Mo",
        "regions": ("eu-west-1",), "currency": "USD", "tiers": ((0.0, 0.1),), "since": "2026-11-01",
    }  # fmt: skip
    return Listed(**{**fields, **change})


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([line(unit="TB-Mo")], "its unit is 'TB-Mo'"),
        ([line(), line(tiers=((0.0, 0.2),))], "2 lines of AmazonECR may be it"),
        ([line(kind="EUW1-Other")], "no line of AmazonECR is it"),
        ([line(text="ECR public repositories")], "no line of AmazonECR is it"),
    ],
)
def test_a_line_that_is_not_the_one_is_no_price(lines: list[Listed], said: str) -> None:
    found, missing = found_prices(AWS_RULES[:1], lines, TODAY)
    assert not found and said in missing[0]


def test_the_same_price_in_two_lines_is_one() -> None:
    found, missing = found_prices(AWS_RULES[:1], [line(), line(sku="T")], TODAY)
    assert [each.id for each in found] == ["aws/ecr/storage/eu-west-1"] and not missing


class Texts:
    """A price list of texts, whatever they are."""

    def __init__(self, texts: list[Any]) -> None:
        self._texts = texts

    def pages(self, *_: object, **__: object) -> Iterator[Any]:
        yield from self._texts


NAMES = [
    *("product", "attributes", "terms", "OnDemand", "priceDimensions", "pricePerUnit", "beginRange", "unit", "USD"),
    *("pricingInfo", "pricingExpression", "tieredRates", "unitPrice", "units", "nanos", "category", "usageType"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=25,
)  # fmt: skip


@given(documents=st.lists(JSON, max_size=4), texts=st.lists(st.text(max_size=40), max_size=2))
def test_lists_of_anything_give_prices_that_can_be_or_none(documents: list[Any], texts: list[str]) -> None:
    told: list[Any] = [*texts, *documents, *(json.dumps(each) for each in documents)]
    found = list(aws_list(Texts(told), "AmazonECR", "USD"))  # type: ignore[arg-type]
    found += list(google_list(Texts(told), "services/A", "USD"))
    for each in found:
        assert each.tiers[0][0] == 0 and all(usd >= 0 for _, usd in each.tiers)
    prices, _ = found_prices((*AWS_RULES, *GOOGLE_RULES), found, TODAY)
    assert all(price.usd >= 0 for price in prices)


@given(
    usd=st.floats(0, 10), free=st.floats(0, 5), steps=st.lists(st.floats(6, 10**6), max_size=3, unique=True),
    amount=st.integers(0, 10**15),
)  # fmt: skip
def test_costs_rise_with_amounts_and_never_exceed_the_dearest_tier(
    usd: float, free: float, steps: list[float], amount: int
) -> None:
    tiers = tuple(Tier(above=above, usd=usd / (at + 2)) for at, above in enumerate(sorted(steps)))
    price = Price(id="x", usd=usd, per="GB-month", what="", free=free, tiers=tiers)
    assert 0 <= price.cost(amount) <= price.units(amount) * usd * (1 + 1e-9) + 1e-9
    assert price.cost(amount) <= price.cost(amount + 10**9) + 1e-6
    assert price.cost(free * 10**9) == pytest.approx(0, abs=1e-6)
