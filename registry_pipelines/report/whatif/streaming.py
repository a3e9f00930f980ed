"""What streaming an image changes on the wire: the bytes that a start really reads, in place of the whole image.

Only where the rest is not fetched meanwhile: a node that fills (``stream mount --fill``, which is so unless told, and
``node serve``) moves the whole image in the end, only later. Then streaming saves time, and no byte.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from registry_pipelines.report.arithmetic import Line, amount_text
from registry_pipelines.report.prices import Price
from registry_pipelines.report.whatif.model import Case, WhatIf, saving


class Starts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an image. full: compressed bytes of its layers. read: bytes that a measured start fetched; None
    without a measurement. pack: of its hot pack; None without one. extra: bytes of indexes and packs beside the image,
    which are stored, too. of: what the figures are from."""

    full: int
    read: int | None
    pack: int | None
    extra: int
    of: str


def streaming(
    image: str,
    found: Starts,
    *,
    pulls: float | None,
    way: Sequence[Line],
    storage: Price | None,
    no_price: str = "",
    no_way: str = "",
    currency: str,
    notes: Sequence[str] = (),
) -> WhatIf:
    """pulls: a month; None where they are not known. way: what one byte of each of these pulls costs, as lines of one
    byte each; ``no_way`` why there is none."""
    unpulled = () if pulls is not None else ("how often it is pulled is not known",)
    no_lines = (no_way,) if no_way and pulls != 0 else ()
    no_storage = () if storage or not found.extra else (no_price or "nobody bills its storage by the GB",)
    unread = () if found.read is not None else ("no start of it was measured (`stream measure`)",)
    beside = (Line(found.extra, storage),) if storage and found.extra else ()

    def moved(size: int | None) -> tuple[Line, ...]:
        return tuple(Line(each.amount * size * (pulls or 0.0), each.price) for each in way) if size else ()

    whole = Case(
        name="pulled whole",
        lines=moved(found.full),
        unknown=(*unpulled, *no_lines),
        why=f"{amount_text(found.full)} a pull",
    )
    lazily = Case(
        name="streamed, what starts read",
        lines=(*moved(found.read), *beside),
        unknown=(*unpulled, *no_lines, *unread, *no_storage),
        why="" if found.read is None else f"{amount_text(found.read)} a start, {found.of}; the rest is never fetched",
    )
    filled = Case(
        name="streamed, and filled",
        lines=(*moved(found.full), *beside),
        unknown=(*unpulled, *no_lines, *no_storage),
        why="nodes fetch the rest when nobody waits: all bytes move, only later",
    )
    saved = saving(whole, lazily)
    return WhatIf(
        what="streaming",
        subject=image,
        verdict=_verdict(found, saved, currency),
        cases=(whole, lazily, filled),
        facts={
            "full_bytes": found.full,
            **({} if found.read is None else {"read_bytes": found.read}),
            **({} if found.pack is None else {"pack_bytes": found.pack}),
            "beside_bytes": found.extra,
            **({} if pulls is None else {"pulls_per_month": round(pulls, 1)}),
            **({} if saved is None else {"saved_usd_per_month": round(saved, 2)}),
        },
        notes=(
            *(() if found.pack is None or found.read is not None else (_least(found.pack),)),
            *notes,
        ),
    )


def _least(pack: int) -> str:
    return f"its hot pack has {amount_text(pack)}: a start reads that at least"


def _verdict(found: Starts, saved: float | None, currency: str) -> str:
    if found.read is None:
        return "what a start reads is not known: measure one (`stream measure`)"
    part = 100 * found.read / found.full if found.full else 0.0
    text = f"a start reads {amount_text(found.read)} of {amount_text(found.full)} ({part:.0f} %)"
    if saved is None:
        return f"{text}; what that saves is not known"
    if saved <= 0:
        return f"{text}, and saves nothing: the bytes cost nothing on their way, or less than what is stored beside"
    return f"{text}: {saved:.2f} {currency} less a month, where the rest is not filled"


__all__ = ["Starts", "streaming"]
