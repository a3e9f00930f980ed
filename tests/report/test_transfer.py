"""What moves and what it costs: by hand, and over CloudWatch, files and kept events with ECR's own sizes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.chain.pull_counts import read_pulls
from registry_pipelines.cli import main
from registry_pipelines.errors import InputError
from registry_pipelines.oci import media_types
from registry_pipelines.registry.ecr.access import AwsAccess
from registry_pipelines.registry.ecr.calls import AwsCalls
from registry_pipelines.registry.ecr.pull_counts import pull_counts
from registry_pipelines.report.advice import Origin
from registry_pipelines.report.arithmetic import Line, doubts, told
from registry_pipelines.report.audit.model import Event
from registry_pipelines.report.audit.store import AuditStore
from registry_pipelines.report.edges import PullEdge
from registry_pipelines.report.prices import OWN, FilePrices, Price, Tier
from registry_pipelines.report.transfer import Copies, Pulls, transfer
from registry_pipelines.shared.documents import FolderDocuments
from tests.answers import answered
from tests.doubles.aws.front import Area, AwsDouble, Call
from tests.doubles.aws.model import Values
from tests.inventory.clouds import DAY_S, ecr_place, put, written

BOOK = FilePrices()
GB = 10**9
ORIGINS = {
    "ecr": Origin(name="ecr", cloud="aws", region="eu-west-1"),
    "gar": Origin(name="gar", cloud="gcp", region="europe-west1"),
    "us": Origin(name="us", cloud="aws", region="us-east-1"),
}


def edge(name: str = "e", **told: Any) -> PullEdge:
    return PullEdge(**{"name": name, "registry": "ecr", "region": "eu-west-1", "through": "nat", **told})


def pulled(pulls: float | None = 3040, size: float | None = 5 * GB, **told: Any) -> Pulls:
    return Pulls(**{"registry": "ecr", "repository": "team/app", "pulls": pulls, "each_bytes": size, **told})


@pytest.mark.parametrize(
    ("how", "usd"),
    [
        ({}, 15_200 * 0.045),  # in the region, through NAT
        ({"zone": "other"}, 15_200 * (0.045 + 0.01)),
        ({"through": "s3-gateway", "zone": "other"}, 0.0),
        ({"through": "interface-endpoint"}, 15_200 * 0.01),
        ({"through": "public"}, 0.0),
        ({"region": "us-east-1"}, 15_200 * (0.02 + 0.045)),
        ({"region": "us-east-1", "through": "public"}, 15_200 * 0.02),
        ({"region": "europe-west1"}, 15_200 * (0.09 + 0.045)),  # another cloud: the dearest way out, and its NAT
        ({"region": "", "through": "public"}, 15_200 * 0.09),  # on-premises
        ({"registry": "gar", "region": "europe-west1", "through": "public"}, 0.0),
    ],
)
def test_an_edge_knows_regions_zones_nat_and_endpoints(how: dict[str, Any], usd: float) -> None:
    # 3,040 pulls of 5 GB in 30.4 days are 15,200 GB.
    it = edge(**how)
    found = transfer([it], ORIGINS, [pulled(registry=it.registry)], (), BOOK, days=30.4)
    assert (found.usd, found.size, found.unknown) == (pytest.approx(usd), pytest.approx(15_200 * GB), [])


def test_the_price_of_the_nodes_region_is_taken_and_that_of_another_is_not_sure(tmp_path: Path) -> None:
    document = json.loads(OWN.read_text())
    document["prices"].append({"id": "aws/nat/eu-west-1", "usd": 0.052, "per": "GB", "what": "", "region": "eu-west-1"})
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(document))
    for region, usd, sure in (("eu-west-1", 0.052, True), ("eu-north-1", 0.045, False), ("us-east-1", 0.045, True)):
        book, it = FilePrices(file), edge(region=region, registry="near")
        near = {"near": Origin(name="near", cloud="aws", region=region)}
        found = transfer([it], near, [pulled(registry="near")], (), book, days=30.4)
        assert (found.usd, found.by_edge()[0]["sure"]) == (pytest.approx(15_200 * usd), sure)
        told = doubts(found.lines, book, book.date, old_after=timedelta(days=9))
        assert told == ([] if sure else ["the price aws/nat is not sure: of us-east-1"])


def test_the_window_is_brought_to_a_month_and_the_arithmetic_is_told() -> None:
    found = transfer([edge(region="us-east-1")], ORIGINS, [pulled(760)], (), BOOK, days=7.6)
    [row] = found.by_edge()
    assert row["arithmetic"] == "15200.0 GB x 0.02 (aws/regions?) + 15200.0 GB x 0.045 (aws/nat) = 988.00"
    assert (row["times_per_month"], row["sure"]) == (3040.0, False)


@pytest.mark.parametrize(
    ("edges", "pulls", "says"),
    [
        ([], pulled(), "no edge of `report.edges` says who pulls it"),
        ([edge(repositories=("other/*",))], pulled(), "no edge of `report.edges`"),
        ([edge()], pulled(None, why="nobody counts"), "nobody counts"),
        ([edge()], pulled(size=None, size_of="it is gone"), "how large it is is not known: it is gone"),
        ([edge("a"), edge("b", share=50)], pulled(), "2 edges have it, and a have no `share`"),
        ([edge("a", share=90), edge("b", share=20)], pulled(), "the shares of a, b are 110 % in all"),
        ([edge()], pulled(edge="gone"), "`report.edges` of ecr has no gone"),
        (
            [edge(region="us-east-1", through="s3-gateway")],
            pulled(),
            "an endpoint of S3 leads to ECR of its own region",
        ),
        ([edge(region="")], pulled(), "nat is a way of clouds"),
    ],
)
def test_what_is_not_known_is_said_and_is_in_no_sum(edges: list[PullEdge], pulls: Pulls, says: str) -> None:
    found = transfer(edges, ORIGINS, [pulls], (), BOOK, days=30.4)
    assert found.usd == 0 and len(found.unknown) == 1 and says in found.unknown[0]
    assert [each.row()["usd_per_month"] for each in found.moved] == [""]


def test_shares_split_pulls_and_what_is_over_is_nobodys() -> None:
    edges = [edge("nat", share=25), edge("gate", share=50, through="s3-gateway")]
    found = transfer(edges, ORIGINS, [pulled()], (), BOOK, days=30.4)
    by_name = {each.edge: each for each in found.moved}
    assert by_name["nat"].moved == pytest.approx(3_800 * GB) and found.usd == pytest.approx(3_800 * 0.045)
    assert by_name["gate"].moved == pytest.approx(7_600 * GB)
    assert found.unknown == ["(nobody says who): ecr/team/app: 25 % of the pulls are in no edge's `share`"]
    # Nothing that nobody pulled is asked for.
    assert transfer([], ORIGINS, [pulled(0)], (), BOOK, days=30.4).unknown == []


def test_copies_cross_once_for_each_release() -> None:
    known = Copies(source="ecr", registry="us", image="app", releases=20, moved_bytes=2 * GB)
    found = transfer([], ORIGINS, (), [known, Copies(**{**_fields(known), "releases": None})], BOOK, days=30)
    assert found.usd == pytest.approx(40 * 0.02) and len(found.unknown) == 1
    # What is not known is no 0 in a table either.
    alone = transfer([], ORIGINS, (), [Copies(**{**_fields(known), "releases": None})], BOOK, days=30).by_edge()[0]
    assert {alone[name] for name in ("times_per_month", "bytes_per_month", "usd_per_month")} == {""}


def _fields(each: Copies) -> dict[str, Any]:
    return {name: getattr(each, name) for name in each.__struct_fields__}


@given(
    shares=st.lists(st.integers(0, 33), min_size=1, max_size=3),
    pulls=st.floats(0, 1e6),
    size=st.floats(0, 1e12),
    days=st.floats(0.5, 400),
)
def test_no_byte_is_lost_or_counted_twice(shares: list[int], pulls: float, size: float, days: float) -> None:
    edges = [edge(f"e{at}", share=share) for at, share in enumerate(shares)]
    found = transfer(edges, ORIGINS, [pulled(pulls, size)], (), BOOK, days=days)
    assert found.size == pytest.approx(pulls * size * 30.4 / days, rel=1e-6, abs=1e-3)
    assert found.usd == pytest.approx(sum(shares) / 100 * pulls * size * 30.4 / days / GB * 0.045, rel=1e-6, abs=1e-6)


def test_tiers_and_free_parts_are_in_the_arithmetic() -> None:
    price = Price(id="x", usd=0.1, per="GB-month", what="", free=0.5, tiers=(Tier(above=10, usd=0.05),))
    line = Line(20 * GB, price)
    assert line.usd == pytest.approx(9.5 * 0.1 + 10 * 0.05)
    assert told([line]) == "20.0 GB-month x 0.1 above 0.5 free and 0.05 above 10 (x) = 1.45"


# Over a registry


def image(size: int) -> bytes:
    layer = {"mediaType": media_types.OCI_LAYER_GZIP, "digest": f"sha256:{size:064x}", "size": size - 100}
    config = {"mediaType": media_types.OCI_CONFIG, "digest": f"sha256:{size + 1:064x}", "size": 100}
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": config, "layers": [layer]}
    return json.dumps(document).encode()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsDouble]:
    with AwsDouble() as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        yield double


EDGES = """
report:
  edges:
    eks: {registry: ecr, region: us-east-1, through: nat, repositories: ['team/*']}
    here: {registry: ecr, region: eu-west-1, through: s3-gateway, repositories: ['base']}
"""


def ask(config: Path, *more: str) -> dict[str, Any]:
    done = CliRunner().invoke(main, ["report", "transfer", "--json", "--quiet", "--config", str(config), *more])
    assert done.exit_code in (0, 7), done.output
    return dict(answered(done.stdout))


def count(double: AwsDouble, repository: str, values: list[float]) -> None:
    """Pull counts as ECR publishes them."""
    client = boto3.client("cloudwatch", endpoint_url=double.url, region_name="eu-west-1")
    now = datetime.now(UTC)
    client.put_metric_data(
        Namespace="AWS/ECR",
        MetricData=[
            {
                "MetricName": "RepositoryPullCount",
                "Dimensions": [{"Name": "RepositoryName", "Value": repository}],
                "Timestamp": now - timedelta(days=at, hours=1),
                "Value": value,
            }
            for at, value in enumerate(values)
        ],
    )


def test_pulls_of_cloudwatch_times_the_images_that_ecr_says_were_pulled(aws: AwsDouble, tmp_path: Path) -> None:
    place, now = ecr_place(aws), aws.clock()
    put(place, "team/app", image(9 * GB), "old", at=now - 50 * DAY_S)
    used = put(place, "team/app", image(5 * GB), "v1", at=now - 5 * DAY_S)
    place.repositories["team/app"].images[used.digest].pulled_at = now - DAY_S
    put(place, "base", image(GB), "v1", at=now - 50 * DAY_S)
    put(place, "silent", image(GB), "v1", at=now - 50 * DAY_S)
    busy = put(place, "busy", image(GB), "v1", at=now - 50 * DAY_S)
    place.repositories["busy"].images[busy.digest].pulled_at = now - DAY_S
    count(aws, "team/app", [100.0, 200.0, 0.0])
    count(aws, "base", [10.0])
    found = ask(written(tmp_path, aws, more=EDGES))
    rows = {row["edge"]: row for row in found["rows"]}
    # 300 pulls of 5 GB in 30 days are 1,520 GB in a month of 30.4.
    assert rows["eks"]["usd_per_month"] == pytest.approx(1_520 * 0.065, abs=0.01)
    assert rows["eks"]["bytes_per_month"] == pytest.approx(1_520 * GB)
    assert rows["here"]["usd_per_month"] == 0
    assert found["facts"]["usd_per_month"] == pytest.approx(98.8)
    # No point, and nobody pulled: none. No point, and ECR's own times say otherwise: not known.
    assert found["reasons"] == [
        "(nobody says who): ecr/busy: CloudWatch has no point of it, and images of it were pulled lately"
    ]
    assert found["action"].startswith("at least ")
    tables = {row["repository"]: row for row in found["tables"]["repositories"] if row["edge"] in rows}
    assert tables["team/app"]["size_of"] == "1 image that were pulled lately"
    assert tables["base"]["size_of"] == "its newest image, v1: nobody says which it was"


class Paged(Area):
    """CloudWatch whose answers come in pages, as they do above 100,800 points; held against botocore's model."""

    service = "cloudwatch"

    def do_GetMetricData(self, call: Call) -> Values:
        second = "NextToken" in call.values
        results = []
        for query in call.values["MetricDataQueries"]:
            name = query["MetricStat"]["Metric"]["Dimensions"][0]["Value"]
            status = "PartialData" if not second or name == "cut" else "Complete"
            values = [] if name == "quiet" else [2.0 if second else 1.0]
            times = [datetime.now(UTC) for _ in values]
            results.append({"Id": query["Id"], "StatusCode": status, "Values": values, "Timestamps": times})
        return {"MetricDataResults": results, **({} if second else {"NextToken": "more"})}


def test_counts_come_in_pages_and_what_is_cut_is_not_known(aws: AwsDouble) -> None:
    aws.answer_by(Paged)
    names = [f"r{number}" for number in range(499)] + ["cut", "quiet"]
    calls = AwsCalls(AwsAccess(region="eu-west-1", endpoint=aws.url))
    found = {each.repository: each for each in pull_counts(calls, names, until=datetime.now(UTC), days=30, where="x")}
    assert list(found) == names and aws.count("GetMetricData") == 4  # 500 metrics a call, two pages each
    assert {found[name].pulls for name in names[:499]} == {3}
    assert (found["cut"].pulls, found["cut"].why) == (None, "CloudWatch did not give all points")
    assert (found["quiet"].pulls, found["quiet"].why) == (None, "CloudWatch has no point of it")
    with pytest.raises(InputError, match="456 days"):
        pull_counts(calls, names, until=datetime.now(UTC), days=456, where="x")


def test_a_source_that_does_not_answer_is_said_and_the_rest_goes_on(aws: AwsDouble, tmp_path: Path) -> None:
    place, now = ecr_place(aws), aws.clock()
    put(place, "team/app", image(5 * GB), "v1", at=now)
    aws.deny("cloudwatch:GetMetricData")
    more = EDGES.replace("here: {registry: ecr", "here: {registry: own")
    config = written(tmp_path, aws, more=more.replace("report:", "  own: {kind: layout, root: own}\nreport:"))
    config.write_text(config.read_text().replace("\n\n", "\n"))
    pulls = tmp_path / "pulls.csv"
    pulls.write_text("registry,repository,pulls,edge\nown,base,0,here\n")
    done = CliRunner().invoke(
        main, ["report", "transfer", "--config", str(config), "--quiet", "--json", "--pulls", str(pulls)]
    )
    found = answered(done.stdout)
    assert (done.exit_code, found["ok"]) == (7, False)
    assert "cloudwatch:GetMetricData" in found["reasons"][0]


def test_a_file_of_pulls_counts_before_all_else(aws: AwsDouble, tmp_path: Path) -> None:
    place, now = ecr_place(aws), aws.clock()
    old = put(place, "team/app", image(2 * GB), "old", at=now - 50 * DAY_S)
    put(place, "team/app", image(5 * GB), "v1", at=now)
    pulls = tmp_path / "pulls.csv"
    pulls.write_text(
        f"registry,repository,pulls,digest,tag\necr,team/app,10,{old.digest},\necr,team/app,4,,v1\n"
        "ecr,team/app,3,,gone\n"
    )
    config = written(tmp_path, aws, more=EDGES)
    found = ask(config, "--pulls", str(pulls), "--days", "30")
    assert found["facts"]["bytes_per_month"] == round((10 * 2 + 4 * 5) * GB * 30.4 / 30)
    assert len(found["reasons"]) == 1 and "gone is not there any more" in found["reasons"][0]
    shown = CliRunner().invoke(
        main, ["report", "transfer", "--config", str(config), "--quiet", "--pulls", str(pulls)], env={"COLUMNS": "200"}
    )
    assert shown.exit_code == 0, shown.output
    assert "eks: 40.5 GB x 0.02 (aws/regions?) + 40.5 GB x 0.045 (aws/nat) = 2.63" in shown.stdout
    assert "the price aws/nat is not sure: of 2026-03-01" in shown.stdout


def test_kept_events_say_which_image_and_how_many_bytes(aws: AwsDouble, tmp_path: Path) -> None:
    place, now = ecr_place(aws), aws.clock()
    one = put(place, "team/app", image(2 * GB), "v1", at=now)
    config = written(tmp_path, aws, more=EDGES)
    at = datetime.now(UTC) - timedelta(days=3)
    kinds: list[dict[str, Any]] = [
        *({"action": "pull", "repository": "team/app", "digest": one.digest} for _ in range(3)),
        {"action": "pull", "repository": "team/app", "digest": one.digest, "refused": "DENIED"},
        {"action": "pull", "repository": "team/app", "digest": one.digest, "service": "scan"},
        {"action": "push", "repository": "team/app", "digest": one.digest},
        *({"action": "pull", "repository": "base", "digest": f"sha256:{'0' * 64}"} for _ in range(2)),
        *({"action": "layer", "repository": "base", "size": size} for size in (GB, 3 * GB)),
    ]
    events = [Event(time=at, registry="ecr", source="log", id=str(n), **each) for n, each in enumerate(kinds)]
    AuditStore(FolderDocuments(tmp_path / ".registry-pipelines" / "report" / "audit")).add(events)
    aws.deny("cloudwatch:GetMetricData")  # which nobody asks for
    found = ask(config)
    assert found["ok"]
    rows = {row["edge"]: row for row in found["rows"]}
    # Four days are kept: 3 pulls of 2 GB, and 4 GB of layers that were given out.
    assert rows["eks"]["bytes_per_month"] == round(6 * GB * 30.4 / 4)
    assert rows["here"]["bytes_per_month"] == round(4 * GB * 30.4 / 4)
    assert any("events are kept of the last 4.0 d" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("edge", "says"),
    [
        ("registry: ecr, through: nat", "`nat` is a way within a cloud: give `region`"),
        ("registry: ecr, through: nat, region: mars", "is no region of AWS or Google Cloud"),
        ("registry: ecr, through: s3-gateway, region: europe-west1", "europe-west1 is no region of AWS"),
        ("registry: ecr, through: public, region: eu-west-1, zone: other", "`public` has no zone"),
        ("registry: ecr, region: eu-west-1", "through"),
        ("registry: nowhere, through: public", "nowhere"),
        ("registry: ecr, through: public, share: 101", "101"),
    ],
)
def test_an_edge_that_cannot_be_is_refused_with_its_line(aws: AwsDouble, tmp_path: Path, edge: str, says: str) -> None:
    config = written(tmp_path, aws, more=f"report: {{edges: {{e: {{{edge}}}}}}}\n")
    done = CliRunner().invoke(main, ["report", "transfer", "--config", str(config)])
    assert done.exit_code == 8 and says in done.output and f"{config}:3: report.edges.e" in done.output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("registry,repository\necr,a\n", "no column pulls"),
        ("registry,repository,pulls,who\necr,a,1,me\n", "a column 'who'"),
        ("registry,repository,pulls\necr,a,many\n", "is no number of pulls"),
        ("registry,repository,pulls\necr,a,-1\n", "cannot be"),
        ("registry,repository,pulls\necr,a,nan\n", "cannot be"),
        ("registry,repository,pulls\necr,a\n", "not as many fields"),
        ("registry,repository,pulls\necr,a,1,2\n", "not as many fields"),
        ("registry,repository,pulls\n,a,1\n", "names no repository"),
        ('registry,repository,pulls\necr,"a,1\n', "it is no CSV"),
        ("", "no column registry"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_line(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "pulls.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=says):
        read_pulls(file)


@given(raw=st.binary(max_size=200))
def test_any_bytes_are_pulls_or_refused(raw: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "any.csv"
    file.write_bytes(b"registry,repository,pulls\n" + raw)
    try:
        found = read_pulls(file)
    except InputError:
        return
    assert all(each.pulls is not None and each.pulls >= 0 and each.registry for each in found)
