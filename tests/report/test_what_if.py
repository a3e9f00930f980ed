"""What-ifs by hand: the textbook's figures, and where they stop being true."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.pictures import straight_lines
from registry_pipelines.report.advice import Nodes, Origin, advise
from registry_pipelines.report.arithmetic import Line
from registry_pipelines.report.prices import FilePrices, Price, Tier
from registry_pipelines.report.whatif.archive import Archivable, archive, cheaper_above
from registry_pipelines.report.whatif.bases import Standing, move_base
from registry_pipelines.report.whatif.model import WhatIf
from registry_pipelines.report.whatif.rechunk import Laid, rechunk
from registry_pipelines.report.whatif.replica import Way, replica
from registry_pipelines.report.whatif.retention import Part, retention
from registry_pipelines.report.whatif.streaming import Starts, streaming

BOOK = FilePrices()
GB, KB = 10**9, 10**3
STORAGE = BOOK.price("aws/ecr/storage")
ACROSS = BOOK.price("aws/regions")
HOME = BOOK.price("aws/same-region")


def usd(found: WhatIf, case: str) -> float | None:
    return next(each.usd for each in found.cases if each.name.startswith(case))


# Retention


def kept(before: int, freed: int, *, going: int = 1) -> list[Part]:
    return [Part(of="registry", name="", images=500, going=going, before=before, freed=freed)]


def test_500_images_of_5_gb_are_250_a_month_without_sharing() -> None:
    found = retention("ecr", kept(500 * 5 * GB, 500 * 5 * GB), storage=STORAGE, quarantine_days=0, currency="USD")
    assert (usd(found, "as it is"), usd(found, "after it")) == (250.0, 0.0)
    assert found.facts["saved_usd_per_month"] == 250.0
    assert found.cases[0].row()["arithmetic"] == "2500.0 GB-month x 0.1 (aws/ecr/storage) = 250.00"


def test_a_base_of_3_gb_and_100_layers_of_10_kb_are_3_gb_and_deleting_99_frees_nothing_to_speak_of() -> None:
    own = 10 * KB
    found = retention(
        "ecr", kept(3 * GB + 100 * own, 99 * own, going=99), storage=STORAGE, quarantine_days=14, currency="USD"
    )
    assert usd(found, "as it is") == pytest.approx(0.30, abs=0.001)  # and not 30, as 100 images of 3 GB would be
    assert found.facts["saved_usd_per_month"] == 0.0
    assert found.verdict.startswith("99 images would go, which frees 990.0 kB of 3.0 GB")
    # What is set aside takes its bytes for two weeks.
    assert usd(found, "set aside") == usd(found, "as it is") and "14 days" in found.cases[1].why


def test_what_a_registry_of_ones_own_costs_is_not_known_and_its_bytes_are() -> None:
    found = retention("own", kept(10, 4), storage=None, no_price="no price of it", quarantine_days=0, currency="USD")
    assert usd(found, "after it") is None and found.unknown == ["no price of it"]
    assert found.facts["freed_bytes"] == 4 and "saved_usd_per_month" not in found.facts
    assert [each.row()["usd_per_month"] for each in found.cases] == ["", ""]
    assert "an unknown sum less a month" in found.verdict


# Replica


def textbook(**told: Any) -> WhatIf:
    """500 images of 5 GB, none of which share a layer, replicated to another region of AWS."""
    how: dict[str, Any] = {
        "straight": Way((ACROSS,)),
        "within": Way((HOME,)),
        "crossing": ACROSS,
        "storage": STORAGE,
        "pull_bytes": 5 * GB,
        "held_bytes": 500 * 5 * GB,
        "moved_bytes": 0,
        "pulls": None,
        "currency": "USD",
    }
    return replica("ecr", "us-east-1", **{**how, **told})


def test_the_textbooks_2500_pulls_are_the_storage_of_500_images_over_the_crossing_of_one() -> None:
    found = textbook()
    # 2,500 GB x 0.10 = 250 a month; a pull saves 5 GB x 0.02 = 0.10.
    assert found.facts["standing_usd_per_month"] == 250.0
    assert found.facts["saved_usd_per_pull"] == pytest.approx(0.10)
    assert found.facts["break_even_pulls_per_month"] == pytest.approx(2500)
    assert found.verdict == "it is worth it above 2,500 pulls of 5.0 GB a month; how many there are is not known"
    for pulls, cheaper in ((2499, "without it"), (2501, "with a replica")):
        one = textbook(pulls=pulls)
        assert min(one.cases, key=lambda each: each.usd or 0.0).name.startswith(cheaper)
    assert textbook(pulls=10_000).verdict.endswith("and there are 10,000: 750.00 USD less a month")
    assert textbook(pulls=100).verdict.endswith("and there are only 100: 240.00 USD more a month")


@pytest.mark.parametrize(("releases", "pulls"), [(0, 2500), (1, 2501), (500, 3000)])
def test_each_release_a_month_adds_a_pull_to_the_break_even(releases: int, pulls: int) -> None:
    found = textbook(moved_bytes=releases * 5 * GB)
    assert found.facts["break_even_pulls_per_month"] == pytest.approx(pulls)


def test_layers_that_images_share_take_the_break_even_down_as_they_take_storage() -> None:
    # A base of 3 GB and 500 times 2 GB: 1,003 GB in place of 2,500.
    found = textbook(held_bytes=3 * GB + 500 * 2 * GB)
    assert found.facts["break_even_pulls_per_month"] == pytest.approx(1003)


def test_nat_on_both_ways_changes_nothing_and_the_gateway_with_the_replica_much() -> None:
    nat, gate = BOOK.price("aws/nat"), BOOK.price("aws/s3-gateway")
    both = textbook(straight=Way((ACROSS, nat)), within=Way((HOME, nat)))
    assert both.facts["break_even_pulls_per_month"] == pytest.approx(2500)
    past = textbook(straight=Way((ACROSS, nat)), within=Way((HOME, gate)))
    assert past.facts["break_even_pulls_per_month"] == pytest.approx(250 / (5 * 0.065), abs=0.1)


def test_a_pull_that_costs_no_less_makes_no_replica_worth_it() -> None:
    found = textbook(straight=Way((HOME,)), pulls=10**6)
    assert found.verdict == "it is never worth it: a pull costs no less with it"
    assert "break_even_pulls_per_month" not in found.facts


@pytest.mark.parametrize("name", ["held_bytes", "moved_bytes", "pull_bytes"])
def test_what_is_not_known_makes_no_break_even(name: str) -> None:
    found = textbook(**{name: None, "pulls": 10, "why": {name: "nobody read it"}})
    assert found.verdict == "the break-even is not known: nobody read it"
    assert usd(found, "with a replica") is None and found.curve is None
    assert "nobody read it" in found.unknown


@given(
    pull=st.floats(1e6, 1e11),
    kept=st.integers(1, 100),
    releases=st.floats(0, 100),
    nat=st.booleans(),
)
def test_the_break_even_is_where_the_advice_turns(pull: float, kept: int, releases: float, nat: bool) -> None:
    """``advise`` does the same arithmetic by itself: on one side of it, it says straight, on the other a replica."""
    more = (BOOK.price("aws/nat"),) if nat else ()
    found = textbook(
        straight=Way((ACROSS, *more)),
        within=Way((BOOK.price("aws/s3-gateway"),)),
        pull_bytes=float(round(pull)),
        held_bytes=float(round(pull)) * kept,
        moved_bytes=float(round(pull)) * releases,
    )
    even = float(found.facts["break_even_pulls_per_month"])
    origin = Origin(name="ecr", cloud="aws", region="eu-west-1")
    for share, first in ((0.9, "straight"), (1.1, "a replica")):
        nodes = Nodes(cloud="aws", region="us-east-1", pulls_per_day=even * share / 30.4, private=nat)
        ways = advise(nodes, origin, BOOK, image_bytes=round(pull), releases_per_month=releases, kept=kept)
        assert ways[0].name.startswith(first)


def test_the_picture_crosses_at_the_break_even() -> None:
    curve = textbook().curve
    assert curve is not None and curve.mark == pytest.approx(2500) and curve.most == pytest.approx(5000)
    costs = [each.at_zero + each.each * 2500 for each in curve.series]
    assert costs[0] == pytest.approx(costs[1]) == pytest.approx(250)
    series = {each.name: (each.at_zero, each.at_zero + each.each * curve.most) for each in curve.series}
    drawn = straight_lines(series, most=curve.most, x=curve.x, y=curve.y, mark=curve.mark)
    assert drawn.startswith("<svg") and ">2,500<" in drawn and "with a replica in us-east-1" in drawn
    assert "&lt;b&gt;" in straight_lines({"<b>": (0, 1)}, most=1, x="x", y="y")


# Archive


def archived(size: float, *, there: float = 0, back: float | None = None, **told: Any) -> WhatIf:
    return archive(
        "ecr",
        Archivable(images=10, size=size, archived=there, retrieved=back),
        standard=STORAGE,
        archived=BOOK.price("aws/ecr/archive"),
        retrieval=BOOK.price("aws/ecr/archive-retrieval"),
        currency="USD",
        **told,
    )


def test_the_archive_saves_nothing_below_150_tb_and_0_03_a_gb_above() -> None:
    at_150_tb = 150 * 1024 * GB
    assert cheaper_above(STORAGE, BOOK.price("aws/ecr/archive")) == at_150_tb
    below = archived(at_150_tb)
    assert below.facts["saved_usd_per_month"] == 0
    assert below.verdict.startswith("it saves nothing: an archived GB costs less only above 153.6 TB")
    above = archived(at_150_tb + 1000 * GB)
    assert above.facts["saved_usd_per_month"] == pytest.approx(30.0)
    # What is archived already counts for the amount.
    assert archived(1000 * GB, there=at_150_tb).facts["saved_usd_per_month"] == pytest.approx(30.0)


def test_what_is_brought_back_eats_the_saving_and_90_days_are_billed_whatever_happens() -> None:
    found = archived(1000 * GB, there=200_000 * GB, back=1000 * GB)
    assert found.facts["saved_usd_per_month"] == pytest.approx(0.0)  # 30 saved, and 1,000 GB x 0.03 paid
    assert found.facts["committed_usd"] == pytest.approx(1000 * 0.07 * 90 / 30.4, abs=0.01)
    assert any("which a GB saves in 1.0 months" in note for note in found.notes)
    assert "which is not known" in archived(GB).cases[1].why
    # At most so many bytes: too few are too few whatever they share, and of enough nobody knows.
    assert archived(GB, unknown=("sharing",)).verdict.startswith("it saves nothing")
    assert archived(200_000 * GB, unknown=("sharing",)).verdict == "what it saves is not known"


def test_a_class_that_is_cheaper_from_the_first_gb_and_one_that_never_is() -> None:
    assert cheaper_above(STORAGE, Price(id="x", usd=0.01, per="GB-month", what="")) == 0
    assert cheaper_above(STORAGE, STORAGE) is None
    dear = Price(id="x", usd=0.2, per="GiB-month", what="", tiers=(Tier(above=2, usd=0.01),))
    assert cheaper_above(STORAGE, dear) == 2 << 30


# Bases


def stands(name: str, on: str, blobs: dict[str, int], repository: str = "ecr/app") -> Standing:
    return Standing(name=name, repository=repository, blobs=blobs, on=on)


def moved(standing: list[Standing], **told: Any) -> WhatIf:
    how: dict[str, Any] = {
        "old_blobs": {"common": 1 * GB, "old": 2 * GB},
        "new_blobs": {"common": 1 * GB, "new": 1 * GB},
        "storage": STORAGE,
        "scan": None,
        "currency": "USD",
    }
    return move_base("py:3.11", "py:3.12", standing, **{**how, **told})


def test_moving_a_base_counts_shared_layers_once_before_between_and_after() -> None:
    old = {"common": GB, "old": 2 * GB}
    found = moved(
        [
            stands("a", "old", {**old, "a": 10 * KB}),
            stands("b", "old", {**old, "b": 20 * KB}),
            stands("c", "old", {**old, "c": 30 * KB}, "ecr/other"),
            stands("d", "", {"d": 5 * GB}),
        ],
        scan=BOOK.price("aws/inspector/scan-first"),
    )
    own = 60 * KB
    assert found.facts["held_bytes_before"] == 8 * GB + own
    assert found.facts["held_bytes_meanwhile"] == 9 * GB + 2 * own  # the new layer beside the old one
    assert found.facts["held_bytes_after"] == 7 * GB + own
    assert (found.facts["moving"], found.facts["common_bytes"]) == (3, GB)
    # The new layer goes to each of two repositories once; each image's own layers at most again.
    assert found.facts["pushed_bytes_at_least"] == 2 * GB
    assert found.facts["pushed_bytes_at_most"] == 2 * GB + own
    assert found.facts["node_fetches_bytes_at_most"] == GB + own
    assert usd(found, "as it is") == pytest.approx(0.8, abs=1e-4)
    between = next(each for each in found.cases if each.name.startswith("while"))
    assert between.row()["arithmetic_once"] == "3.0 scan x 0.09 (aws/inspector/scan-first) = 0.27"
    assert "1.0 GB less are held, 0.10 USD less a month" in found.verdict


def test_images_on_the_new_base_already_have_its_layers_there() -> None:
    found = moved(
        [
            stands("a", "old", {"common": GB, "old": 2 * GB, "a": 1}),
            stands("n", "new", {"common": GB, "new": GB, "n": 1}),
        ]
    )
    assert (found.facts["pushed_bytes_at_least"], found.facts["pushed_bytes_at_most"]) == (0, 1)
    assert found.facts["held_bytes_after"] == 2 * GB + 2


def test_a_base_that_nothing_stands_on() -> None:
    found = moved([stands("d", "", {"d": 1})])
    assert found.verdict == "no image that is looked at stands on py:3.11"
    assert found.facts["held_bytes_before"] == found.facts["held_bytes_after"] == 1
    assert found.facts["node_fetches_bytes_at_most"] == 0


# Rechunk, streaming


def test_a_release_moves_the_package_that_changed_in_place_of_its_layer() -> None:
    # One layer of 5 GB, of which 10 MB change with each release.
    releases = [
        Laid(
            release=f"v{at}",
            now={"base": GB, f"fat{at}": 5 * GB},
            then={"base": GB, "torch": 5 * GB, f"app{at}": 10**7},
        )
        for at in (3, 2, 1)
    ]
    nat = [Line(100.0, BOOK.price("aws/nat"))]  # a byte to a hundred nodes
    found = rechunk("app", releases, measured=True, storage=STORAGE, per_month=20.0, updates=nat, currency="USD")
    assert (found.facts["moved_bytes_now"], found.facts["moved_bytes_then"]) == (5 * GB, 10**7)
    assert found.facts["held_bytes_now"] == 16 * GB and found.facts["held_bytes_then"] == 6 * GB + 3 * 10**7
    # 100 nodes x 20 releases x 5 GB x 0.045, and 16 GB x 0.10.
    assert usd(found, "as it is") == pytest.approx(450 + 1.6)
    assert usd(found, "in layers") == pytest.approx(0.9 + 0.603)
    assert found.tables["releases"][-1]["moved_bytes_now"] == ""


def test_one_release_tells_nothing_of_what_moves() -> None:
    one = [Laid(release="v1", now={"a": 1}, then={"a": 1})]
    found = rechunk("app", one, measured=False, storage=STORAGE, per_month=None, currency="USD")
    assert "moved_bytes_now" not in found.facts
    assert found.verdict == "what a release moves is not known: there are not two releases to compare"
    assert any("nothing says how many update" in note for note in found.notes)
    nodes = [Line(100.0, BOOK.price("aws/nat"))]
    asked = rechunk("app", one, measured=False, storage=STORAGE, per_month=None, updates=nodes, currency="USD")
    assert usd(asked, "as it is") is None and asked.unknown[0] == "how often it is released"


def streamed(read: int | None = GB, pulls: float | None = 1000, **told: Any) -> WhatIf:
    starts = Starts(full=5 * GB, read=read, pack=told.pop("pack", None), extra=10**8, of="measured")
    way = [Line(1.0, BOOK.price("aws/nat"))]
    return streaming("app", starts, pulls=pulls, way=way, storage=STORAGE, currency="USD", **told)


def test_streaming_saves_what_starts_do_not_read_and_nothing_where_nodes_fill() -> None:
    found = streamed()
    assert usd(found, "pulled whole") == pytest.approx(5000 * 0.045)
    assert usd(found, "streamed, what") == pytest.approx(1000 * 0.045 + 0.01)  # and 100 MB of index beside it
    assert usd(found, "streamed, and filled") == pytest.approx(5000 * 0.045 + 0.01)
    assert found.facts["saved_usd_per_month"] == pytest.approx(179.99)
    assert found.verdict.startswith("a start reads 1.0 GB of 5.0 GB (20 %): 179.99 USD less a month")


def test_without_a_measurement_nothing_is_guessed() -> None:
    found = streamed(read=None, pack=2 * 10**8)
    assert usd(found, "streamed, what") is None and "saved_usd_per_month" not in found.facts
    assert found.notes[0] == "its hot pack has 200.0 MB: a start reads that at least"
    assert usd(streamed(pulls=None), "pulled whole") is None
    assert usd(streamed(no_way="no edge"), "pulled whole") is None


@given(read=st.integers(1, 10**10), full=st.integers(1, 10**11), pulls=st.floats(0, 1e6), extra=st.integers(0, 10**9))
def test_streaming_never_saves_more_than_is_not_read(read: int, full: int, pulls: float, extra: int) -> None:
    starts = Starts(full=full, read=min(read, full), pack=None, extra=extra, of="")
    way = [Line(1.0, BOOK.price("aws/nat"))]
    found = streaming("app", starts, pulls=pulls, way=way, storage=STORAGE, currency="USD")
    saved = float(found.facts["saved_usd_per_month"])
    assert saved <= (full - min(read, full)) * pulls / GB * 0.045 + 0.01
