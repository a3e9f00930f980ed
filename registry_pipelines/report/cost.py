"""What registries cost a month, by registry, team, repository, image and class of layers: bytes, money, and how sure.

Storage is split as ``report.allocation`` says, scans are those of a holder's own images. A price that is missing leaves
bytes; one that is old or unsure marks every figure that rests on it. Pure.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, TypedDict

import msgspec
import numpy as np

from registry_pipelines.progress import count_text
from registry_pipelines.report.allocation import LEVELS, NOT_KNOWN, Floats, Ints, Level, Shares, Split
from registry_pipelines.report.holdings import Held
from registry_pipelines.report.prices import Price

MOST_IMAGES = 1000
"""Rows of images that a report has, the dearest first; sums have all of them."""


class Tariff(NamedTuple):
    """A price as it is used. wanted: its id. price: None where the book has none. doubt: why a figure that rests on it
    is not sure; empty where it is."""

    wanted: str
    price: Price | None
    doubt: str = ""


class ScanTariff(NamedTuple):
    """Scans of one registry. first: when something is pushed. again: each further one. rescans: of each image in a
    month; None where nobody says. repositories: patterns."""

    first: Tariff
    again: Tariff | None = None
    rescans: float | None = None
    repositories: tuple[str, ...] = ("*",)


class CostRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one holder costs a month.

    needed_bytes: all that its images need, each blob once where it is stored once. fair_bytes: its part of what is
    billed. freed_bytes: what would go if it went. unpriced_bytes: of ``fair_bytes``, those that no price is known of.
    usd: for ``fair_bytes``; None where no price of any of it is known. freed_usd: what would be saved. scan_usd: None
    where it cannot be told; 0 where nobody is billed for scans. doubt: why these are not sure; empty where they are."""

    level: str
    name: str
    images: int
    needed_bytes: int
    fair_bytes: int
    freed_bytes: int
    unpriced_bytes: int
    usd: float | None
    freed_usd: float | None
    scan_usd: float | None
    doubt: str = ""

    @property
    def month_usd(self) -> float | None:
        """Storage and scans; None where one of them is not known."""
        return None if self.usd is None or self.scan_usd is None else self.usd + self.scan_usd


class CostReport(msgspec.Struct, frozen=True, kw_only=True):
    """What all costs at a time. whole: whether all was read that was asked for. rows are dearest first."""

    time: datetime
    currency: str
    prices_of: str
    whole: bool
    total: CostRow
    registries: tuple[CostRow, ...]
    teams: tuple[CostRow, ...]
    repositories: tuple[CostRow, ...]
    images: tuple[CostRow, ...]
    classes: tuple[CostRow, ...]
    notes: tuple[str, ...] = ()

    def by(self, level: str) -> tuple[CostRow, ...]:
        """Rows of ``registry``, ``team``, ``repository``, ``image`` or ``class``."""
        named = {"registry": self.registries, "team": self.teams, "repository": self.repositories}
        return {**named, "image": self.images, "class": self.classes}[level]

    def rows(self) -> Iterable[CostRow]:
        """All, the total first."""
        yield self.total
        for level in (*LEVELS, "class"):
            yield from self.by(level)


class Classes(NamedTuple):
    """Classes of layers: of each blob that somebody looked into, by its number, the part of its bytes that is of each
    class."""

    parts: Mapping[int, Mapping[str, float]]


def cost_report(
    held: Held,
    tariffs: Sequence[Tariff],
    scans: Mapping[str, ScanTariff],
    classes: Classes,
    *,
    time: datetime,
    currency: str,
    prices_of: str,
    whole: bool,
    notes: Iterable[str] = (),
) -> CostReport:
    """What is held, by the tariffs whose numbers it has. scans: by registry that is billed for them."""
    work = _Work(held, tariffs, scans)
    counts = (len(held.registries), len(held.teams), len(held.repositories), len(held.images))
    names = (held.registries, held.teams, ["/".join(each) for each in held.repositories], None)
    rows: dict[str, tuple[CostRow, ...]] = {}
    for level, count, known in zip(LEVELS, counts, names, strict=True):
        rows[level] = work.rows(level, count, known)
    return CostReport(
        time=time,
        currency=currency,
        prices_of=prices_of,
        whole=whole,
        total=work.total(),
        registries=rows["registry"],
        teams=rows["team"],
        repositories=rows["repository"],
        images=rows["image"],
        classes=work.classes(classes),
        notes=tuple(notes),
    )


class _Money(TypedDict):
    unpriced_bytes: int
    usd: float | None
    freed_usd: float | None


class _Work:
    def __init__(self, held: Held, tariffs: Sequence[Tariff], scans: Mapping[str, ScanTariff]) -> None:
        self._held, self._tariffs, self._split = held, tariffs, Split(held.holding)
        sizes, kinds = self._split.blob_sizes, self._split.blob_tariffs
        self._stored: Ints = np.bincount(kinds, weights=sizes, minlength=len(tariffs)).astype(np.int64)
        self._rates = [_rate(each.price, int(stored)) for each, stored in zip(tariffs, self._stored, strict=True)]
        self._scan_usd, self._scan_doubts = self._scans(scans)

    def _scans(self, scans: Mapping[str, ScanTariff]) -> tuple[Floats, dict[int, list[str]]]:
        """Of each image, in a month (nan: cannot be told); of each registry by number, why that is not sure."""
        held, told = self._held, self._held.scans
        usd = np.zeros(len(held.images))
        doubts: dict[int, list[str]] = {}
        registry = held.repository_registry[held.image_repository]
        for name, each in scans.items():
            if name not in held.registries:
                continue
            at = held.registries.index(name)
            scanned = [any(fnmatch.fnmatchcase(own, one) for one in each.repositories) for _, own in held.repositories]
            mine = (registry == at) & np.array(scanned, dtype=np.bool_)[held.image_repository]
            again = each.again.price.usd if each.again and each.again.price else 0.0
            used = [each.first, *([each.again] if each.again and each.rescans else [])]
            lacking = [tariff.wanted for tariff in used if tariff.price is None]
            if lacking or each.first.price is None:
                usd[mine] = np.nan
                doubts[at] = [f"no price {wanted}" for wanted in lacking]
                continue
            usd[mine] = told.pushed[mine] * each.first.price.usd + told.all[mine] * again * (each.rescans or 0.0)
            usd[mine & (told.undated > 0)] = np.nan
            undated = int(told.undated[mine].sum())
            doubts[at] = [
                *(f"{tariff.wanted}: {tariff.doubt}" for tariff in used if tariff.doubt),
                *(["how often images are scanned again is not known"] if each.again and each.rescans is None else []),
                *([f"when {count_text(undated, 'image')} came is not known"] if undated else []),
            ]
        return usd, doubts

    def rows(self, level: Level, count: int, names: Sequence[str] | None) -> tuple[CostRow, ...]:
        """Of one level, the dearest first, of images the first ``MOST_IMAGES``."""
        shares = self._split.shares(level, count)
        image_holder = self._holders(level)
        scan_usd = np.bincount(image_holder, weights=self._scan_usd, minlength=count)
        images = np.bincount(image_holder, minlength=count)
        usd: Floats = np.zeros(count)
        for kind, (fair, _) in shares.by_tariff.items():
            usd += fair * (self._rates[kind] or 0.0)
        order = np.lexsort((np.arange(count), -shares.fair, -(usd + np.nan_to_num(scan_usd))))
        order = order[(images[order] > 0) | (shares.fair[order] > 0)]
        found = []
        for at in (order[:MOST_IMAGES] if names is None else order).tolist():
            name = self._held.image_name(at) if names is None else names[at]
            found.append(self._row(level, name, at, shares, int(images[at]), float(scan_usd[at])))
        return tuple(found)

    def _holders(self, level: Level) -> Ints:
        """Of each image the number of its holder."""
        held = self._held
        repository = held.image_repository
        if level == "image":
            return np.arange(len(repository), dtype=np.int64)
        if level == "repository":
            return repository
        return (held.repository_registry if level == "registry" else held.repository_team)[repository]

    def _row(self, level: str, name: str, at: int, shares: Shares, images: int, scan_usd: float) -> CostRow:
        kinds = {
            kind: (float(fair[at]), int(freed[at])) for kind, (fair, freed) in shares.by_tariff.items() if fair[at]
        }
        registries = self._registries_of(level, at)
        return CostRow(
            level=level,
            name=name,
            images=images,
            needed_bytes=int(shares.needed[at]),
            fair_bytes=round(float(shares.fair[at])),
            freed_bytes=int(shares.freed[at]),
            scan_usd=None if np.isnan(scan_usd) else scan_usd,
            **self._money(kinds),
            doubt=self._doubt(kinds, registries),
        )

    def _registries_of(self, level: str, at: int) -> Iterable[int]:
        held = self._held
        if level == "registry":
            return (at,)
        if level == "repository":
            return (int(held.repository_registry[at]),)
        if level == "image":
            return (int(held.repository_registry[held.image_repository[at]]),)
        return map(int, np.unique(held.repository_registry[held.repository_team == at]))

    def _money(self, kinds: Mapping[int, tuple[float, int]]) -> _Money:
        usd = freed_usd = 0.0
        unpriced = 0.0
        for kind, (fair, freed) in kinds.items():
            price, rate, stored = self._tariffs[kind].price, self._rates[kind], int(self._stored[kind])
            if price is None or rate is None:
                unpriced += fair
            else:
                usd += fair * rate
                freed_usd += price.cost(stored) - price.cost(stored - freed)
        known = not kinds or unpriced < sum(fair for fair, _ in kinds.values())
        return _Money(
            unpriced_bytes=round(unpriced), usd=usd if known else None, freed_usd=freed_usd if known else None
        )

    def _doubt(self, kinds: Iterable[int], registries: Iterable[int]) -> str:
        told = [
            f"no price {each.wanted}" if each.price is None else f"{each.price.id}: {each.doubt}"
            for each in (self._tariffs[kind] for kind in kinds)
            if each.price is None or each.doubt
        ]
        return "; ".join(dict.fromkeys([*told, *(each for at in registries for each in self._scan_doubts.get(at, ()))]))

    def total(self) -> CostRow:
        """All of it."""
        stored = {kind: (float(size), int(size)) for kind, size in enumerate(self._stored.tolist()) if size}
        scan_usd = float(self._scan_usd.sum())
        size = int(self._stored.sum())
        return CostRow(
            level="total",
            name="all",
            images=len(self._held.images),
            needed_bytes=size,
            fair_bytes=size,
            freed_bytes=size,
            scan_usd=None if np.isnan(scan_usd) else scan_usd,
            **self._money(stored),
            doubt=self._doubt(stored, range(len(self._held.registries))),
        )

    def classes(self, classes: Classes) -> tuple[CostRow, ...]:
        """By class of layers. What was not looked into, manifests and configs too, is not known."""
        split = self._split
        sums: dict[str, dict[int, float]] = {}
        looked = np.isin(split.blob_keys, np.array(list(classes.parts), dtype=np.int64))
        for at in np.flatnonzero(looked).tolist():
            for name, part in classes.parts[int(split.blob_keys[at])].items():
                kinds = sums.setdefault(name, {})
                kind = int(split.blob_tariffs[at])
                kinds[kind] = kinds.get(kind, 0.0) + part * float(split.blob_sizes[at])
        rest = np.bincount(split.blob_tariffs[~looked], weights=split.blob_sizes[~looked], minlength=len(self._tariffs))
        if rest.any():
            sums[NOT_KNOWN] = {kind: float(size) for kind, size in enumerate(rest.tolist()) if size}
        rows = [self._class_row(name, kinds) for name, kinds in sums.items()]
        return tuple(sorted(rows, key=lambda row: (-(row.usd or 0.0), -row.fair_bytes, row.name)))

    def _class_row(self, name: str, kinds: Mapping[int, float]) -> CostRow:
        size = round(sum(kinds.values()))
        whole = {kind: (part, round(part)) for kind, part in kinds.items()}
        return CostRow(
            level="class",
            name=name,
            images=0,
            needed_bytes=size,
            fair_bytes=size,
            freed_bytes=size,
            scan_usd=0.0,
            **self._money(whole),
            doubt=self._doubt(whole, ()),
        )


def _rate(price: Price | None, stored: int) -> float | None:
    """What a byte costs of all that is stored at a price, with its free part and its tiers."""
    if price is None:
        return None
    return price.cost(stored) / stored if stored else 0.0
