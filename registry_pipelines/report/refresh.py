"""A price book made anew from what clouds list: which line of a list is which of our prices. Pure.

A line is taken only where it is the one that fits, and its unit is the expected one. Everything else stays as it was,
with its own date, and is told: a price is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date
from typing import NamedTuple

import msgspec

from registry_pipelines.progress import count_text
from registry_pipelines.registry.price_lists import Listed
from registry_pipelines.report.prices import Document, Price, Tier


class Rule(NamedTuple):
    """One price of the book. list: the service of AWS, or the name of Google's services. kind, text: patterns of the
    line; never: of lines that are something else. units: what the list may call the unit, and what a price is per."""

    id: str
    list: str
    kind: str
    text: str
    never: str
    units: dict[str, str]
    what: str


_STORED = {"GB-Mo": "GB-month"}
_MOVED = {"GB": "GB"}
_SCANS = {"Image": "scan", "Images": "scan", "Scan": "scan", "Scans": "scan", "Count": "scan", "ImageScans": "scan"}
_REQUESTS = {"Requests": "request", "Request": "request"}
_SCANNED = r"(?i)container image|\bECR\b"

AWS_RULES: tuple[Rule, ...] = (
    Rule("aws/ecr/storage", "AmazonECR", r"\ATimedStorage-ByteHrs\Z", "", "(?i)public", _STORED, "ECR, what is stored"),
    Rule("aws/ecr/archive", "AmazonECR", r"(?i)archive.*bytehrs", "", "(?i)retriev", _STORED, "ECR, archived images"),
    Rule("aws/ecr/archive-retrieval", "AmazonECR", "(?i)retriev", "", "", _MOVED, "ECR, an image brought back"),
    Rule(
        "aws/inspector/scan-first", "AmazonInspectorV2", "", _SCANNED, r"(?i)re-?scan|on-?demand|CI/?CD|agentless",
        _SCANS, "Amazon Inspector, the first scan of an image",
    ),
    Rule(
        "aws/inspector/rescan", "AmazonInspectorV2", "", rf"(?=.*(?:{_SCANNED[4:]}))(?=.*[Rr]e-?scan)",
        r"(?i)on-?demand|CI/?CD", _SCANS, "Amazon Inspector, each further scan of an image",
    ),
    Rule("aws/nat", "AmazonEC2", r"\ANatGateway-Bytes\Z", "", "", _MOVED, "through a NAT gateway, either way"),
    Rule("aws/s3/storage", "AmazonS3", r"\ATimedStorage-ByteHrs\Z", "", "", _STORED, "S3 Standard"),
    Rule("aws/s3/put", "AmazonS3", r"\ARequests-Tier1\Z", "", "", _REQUESTS, "S3, PUT, COPY, POST or LIST"),
    Rule("aws/s3/get", "AmazonS3", r"\ARequests-Tier2\Z", "", "", _REQUESTS, "S3, GET and all others"),
)  # fmt: skip
"""Names of usage types as AWS's bills have them. Those of archives and of Inspector are of no document of AWS that we
could read: what fits no line, or several, stays."""

TRANSFER = Rule("aws/regions", "AWSDataTransfer", r"AWS-Out-Bytes\Z", "", "", _MOVED, "from one region to another")
"""A price for each pair of regions."""

GOOGLE_RULES: tuple[Rule, ...] = (
    Rule(
        "gcp/gar/storage", "Artifact Registry", "", r"(?i)\AArtifact Registry Storage", "(?i)egress|network",
        {"GiBy.mo": "GiB-month"}, "Artifact Registry, what is stored",
    ),
    Rule(
        "gcp/scan", "Artifact Analysis", "", r"(?i)scan", r"(?i)on-?demand|language package only",
        {"count": "scan", "1": "scan"}, "Artifact Analysis, the first scan of a digest",
    ),
)  # fmt: skip
GOOGLE_SERVICES = {
    "Artifact Registry": re.compile(r"\AArtifact Registry\Z"),
    "Artifact Analysis": re.compile(
        r"\A(Artifact Analysis|Container (Analysis|Scanning|Registry Vulnerability Scanning))\Z"
    ),
}
"""Display names; the one of scans has changed with the product's."""


class Change(NamedTuple):
    """One price that was read. before: what the book had; None for nothing."""

    price: Price
    before: Price | None


def found_prices(rules: Iterable[Rule], lines: Sequence[Listed], today: date) -> tuple[list[Price], list[str]]:
    """Prices that lines give, of the regions that they are of, and what was not found, one sentence each. lines: of one
    question, as those of one region."""
    found, missing = [], []
    for rule in rules:
        fitting = [line for line in lines if _fits(rule, line)]
        by_place: dict[str, list[Listed]] = {}
        for line in fitting:
            for place in _places(line):
                by_place.setdefault(place, []).append(line)
        if not by_place:
            missing.append(f"{rule.id}: no line of {rule.list} is it")
        for place, own in by_place.items():
            price = _price(rule, own[0], place, today)
            if len({(line.tiers, line.unit) for line in own}) > 1:
                missing.append(
                    f"{rule.id}{place and f' ({place})'}: {count_text(len(own), 'line')} of {rule.list} may be it"
                )
            elif price is None:
                missing.append(f"{rule.id}: its unit is {own[0].unit[:40]!r}, which is none of ours")
            else:
                found.append(price)
    return found, missing


def _fits(rule: Rule, line: Listed) -> bool:
    return bool(
        re.search(rule.kind, line.kind)
        and re.search(rule.text, line.text)
        and not (rule.never and re.search(rule.never, f"{line.kind} {line.text}"))
        and (rule.id != TRANSFER.id or (line.to and line.regions))
    )


def _places(line: Listed) -> Sequence[str]:
    if line.to:
        return [f"{region}/{line.to}" for region in line.regions]
    return line.regions or ("",)


def _price(rule: Rule, line: Listed, place: str, today: date) -> Price | None:
    per = rule.units.get(line.unit)
    if per is None:
        return None
    (_, first), *more = line.tiers
    free = 0.0
    if first == 0 and more:
        (free, first), *more = more
    return Price(
        id=f"{rule.id}/{place}" if place else rule.id,
        usd=first,
        per=per,
        what=rule.what,
        free=free,
        tiers=tuple(Tier(above=above, usd=usd) for above, usd in more),
        region=place.partition("/")[0],
        date=today,
        source=f"{line.service}, {line.sku}" + (f", since {line.since}" if line.since else ""),
    )


def refreshed(book: Document, prices: Iterable[Price], today: date, source: str) -> tuple[Document, list[Change]]:
    """The book with prices in place of its own of the same id. What is not among them keeps the date and source that it
    had. source: who was asked."""
    known = {each.id: each for each in book.prices}
    new = {each.id: each for each in prices}
    kept = [
        msgspec.structs.replace(each, date=each.date or book.date, source=each.source or book.source)
        for each in book.prices
        if each.id not in new
    ]
    changes = [Change(each, known.get(each.id)) for each in new.values()]
    whole = sorted([*kept, *new.values()], key=lambda each: each.id)
    return Document(currency=book.currency, date=today, source=source, prices=tuple(whole)), changes
