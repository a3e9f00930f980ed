"""What a sync did, or would do, as rows: one per target, one per image and target; and the sums of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from registry_pipelines.progress import count_text
from registry_pipelines.transfer.closure import omissions
from registry_pipelines.transfer.closure.closure import Omission
from registry_pipelines.transfer.delivery.plan import BlobKey, Delivery
from registry_pipelines.transfer.delivery.results import TargetResult
from registry_pipelines.transfer.sync import SyncResult

Row = dict[str, str | int | float | bool]

MAX_NOTES = 20
"""Sentences about what images leave out. The table has them all."""


@dataclass(frozen=True)
class Summary:
    """A sync of one source, told with the names of its targets. names: parallel to the source's targets."""

    result: SyncResult
    names: Sequence[str]

    def plan_rows(self) -> list[Row]:
        """The plan: one row per image and target, those with something to do first. Bytes are those of uploads; digests
        are whole."""
        ordered = sorted(self.result.plan.deliveries, key=lambda each: (each.unchanged, -each.upload_bytes))
        return [self._planned(each) for each in ordered]

    def target_rows(self) -> list[Row]:
        """What was done: one row per target. seconds: until its last image was there; bytes_per_second: over these."""
        pairs = list(zip(self.result.plan.deliveries, self.result.results, strict=True))
        return [
            _target_row(name, [pair for pair in pairs if self._name(pair[0]) == name])
            for name in dict.fromkeys(self.names)
        ]

    def image_rows(self) -> list[Row]:
        """One row per image and target where something was done, differs or failed, problems first; then what could not
        be read at the source."""
        pairs = zip(self.result.plan.deliveries, self.result.results, strict=True)
        rows = [self._image(delivery, result) for delivery, result in pairs if result.changed or problems(result)]
        rows += [_no_image(each.reference, str(each.error)) for each in self.result.failures]
        return sorted(rows, key=lambda row: _ORDER[str(row["state"])])

    def result_rows(self) -> list[Row]:
        """One row per image and target, in the plan's order."""
        return [self._image(*pair) for pair in zip(self.result.plan.deliveries, self.result.results, strict=True)]

    def reasons(self) -> list[str]:
        """Why it is not all as planned: one sentence for each failure, refusal and drift."""
        reasons = [text for each in self.result.results for text in problems(each)]
        if not self.result.results:
            refused = [each for each in self.result.plan.deliveries if each.refused]
            reasons = [f"{each.target}: {each.refused}{f'. {each.do}' if each.do else ''}" for each in refused]
        return [_failure(each.reference, str(each.error)) for each in self.result.failures] + reasons

    def left_out_rows(self) -> list[Row]:
        """What no target gets, one row each: ``image`` (empty for what no image has), and the columns of
        :func:`~registry_pipelines.transfer.closure.omissions.rows`. What the configuration excludes is not among it."""
        rows: list[Row] = [{"image": "", **row} for row in omissions.rows(self.result.passed_over)]
        for name, left in self._left_out().items():
            rows += [{"image": name, **row} for row in omissions.rows(left)]
        return rows

    def notes(self) -> list[str]:
        """The same as sentences, images that leave out alike as one; at most ``MAX_NOTES`` of them, and then how many
        images more there are."""
        alike: dict[str, list[str]] = {}
        for name, left in self._left_out().items():
            alike.setdefault(omissions.note(left), []).append(name)
        sentences = [f"{_span(names)}: {note}" for note, names in alike.items()]
        more = sum(map(len, list(alike.values())[MAX_NOTES:]))
        own = omissions.note(self.result.passed_over)
        return [
            *sentences[:MAX_NOTES],
            *([f"{count_text(more, 'more image leaves', 'more images leave')} something out"] if more else []),
            *filter(None, [own]),
        ]

    def _left_out(self) -> dict[str, Sequence[Omission]]:
        """By image; each closure is told once, however many targets it has."""
        closures = {_image_name(each): each.job.closure for each in self.result.plan.deliveries}
        return {name: left for name, closure in closures.items() if (left := closure.omissions)}

    def totals(self) -> dict[str, int]:
        """Sums over all targets, under stable names."""
        rows, results = self.target_rows() if self.result.results else [], self.result.results
        return {
            "copies": len(self.result.plan.deliveries),
            "copies_changed": sum(each.changed for each in results),
            "fetch_bytes": self.result.plan.fetch_bytes,
            "resumed_bytes": sum(each.bytes_resumed for each in results),
            "blobs_moved": sum(each.blobs_moved for each in results),
            "blobs_mounted": sum(each.blobs_mounted for each in results),
            "blobs_unchanged": sum(int(row["unchanged"]) for row in rows),
            "mounted_bytes": sum(int(row["mounted_bytes"]) for row in rows),
            "unchanged_bytes": sum(int(row["unchanged_bytes"]) for row in rows),
            "manifests_put": sum(each.manifests_put for each in results),
            "tags_moved": sum(each.tags_moved for each in results),
            "requests": sum(self.result.requests.values()),
            "receipts": sum(each.receipt is not None for each in results),
            "receipts_signed": sum(each.receipt is not None and each.receipt.signed for each in results),
            "drift": sum(bool(each.drift) for each in results),
            "left_out_count": len(self.left_out_rows()),
            "failures": len(self.result.failures) + sum(each.error is not None for each in results),
        }

    def _name(self, delivery: Delivery) -> str:
        # The plan keeps the order of the targets within each job.
        return self.names[delivery.job.targets.index(delivery.target)]

    def _planned(self, delivery: Delivery) -> Row:
        count = {kind: sum(step.action == kind for step in delivery.blobs) for kind in ("upload", "mount", "shared")}
        drift = ", ".join(step.tag for step in delivery.tags if step.action == "drift")
        state = "refused" if delivery.refused else "drift" if drift else "unchanged" if delivery.unchanged else "copy"
        return {
            "image": _image_name(delivery),
            "target": self._name(delivery),
            "action": state,
            "upload_bytes": delivery.upload_bytes,
            "upload": count["upload"],
            "mount": count["mount"],
            "shared": count["shared"],
            "unchanged": sum(step.action == "present" for step in delivery.blobs),
            "manifests": sum(step.action == "put" for step in delivery.manifests),
            "relisted": sum(step.action == "list" for step in delivery.manifests),
            "tags": ", ".join(step.tag for step in delivery.tags if step.action == "set"),
            "drift": drift,
            "left_out": len(delivery.job.closure.omissions),
            "refused": delivery.refused,
            "digest": str(delivery.job.closure.root.digest),
        }

    def _image(self, delivery: Delivery, result: TargetResult) -> Row:
        return {
            "image": _image_name(delivery),
            "target": self._name(delivery),
            "state": result.state,
            "bytes": result.bytes_moved,
            "resumed_bytes": result.bytes_resumed,
            "seconds": round(result.seconds, 3),
            "uploaded": result.blobs_moved,
            "mounted": result.blobs_mounted,
            "manifests": result.manifests_put,
            "tags": result.tags_moved,
            "left_out": len(result.left_out),
            "note": "; ".join([*problems(result), *filter(None, [result.left_out_note])]),
            "digest": str(result.root.digest),
        }


_ORDER = {"failed": 0, "drift": 1, "copied": 2, "unchanged": 3}


def problems(result: TargetResult) -> list[str]:
    """What is not as planned at one target: the error, or each drift."""
    if result.error is not None:
        return [_failure(str(result.place), str(result.error))]
    return [f"{result.place}: {each}" for each in result.drift]


def _failure(where: str, text: str) -> str:
    """An error's text, which mostly says itself where it was."""
    return text if text.startswith(where.partition("/")[0]) else f"{where}: {text}"


def _span(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{count_text(len(names), 'image')}, from {names[0]} to {names[-1]}"


def _target_row(name: str, pairs: Sequence[tuple[Delivery, TargetResult]]) -> Row:
    results = [result for _, result in pairs]
    states = {result.state for result in results}
    moved = sum(each.bytes_moved for each in results)
    resumed = sum(each.bytes_resumed for each in results)
    seconds = max((each.seconds for each in results), default=0.0)
    present, total = _sizes([delivery for delivery, _ in pairs])
    unchanged = sum(present.values())
    failed = sum(each.error is not None for each in results)
    # What is there now was sent, by this run or one before, was mounted, or was there already; of a target with
    # failures nobody knows the rest.
    mounted = 0 if failed else max(0, sum(total.values()) - unchanged - moved - resumed)
    return {
        "target": name,
        "state": min(states, key=lambda state: _ORDER[state]) if states else "unchanged",
        "images": len(results),
        "bytes": moved,
        "resumed_bytes": resumed,
        "seconds": round(seconds, 3),
        "bytes_per_second": round(moved / seconds) if seconds else 0,
        "uploaded": sum(each.blobs_moved for each in results),
        "mounted": sum(each.blobs_mounted for each in results),
        "unchanged": len(present),
        "changed": sum(each.changed for each in results),
        "failed": failed,
        "drift": sum(bool(each.drift) for each in results),
        "manifests": sum(each.manifests_put for each in results),
        "tags": sum(each.tags_moved for each in results),
        "mounted_bytes": mounted,
        "unchanged_bytes": unchanged,
    }


def _sizes(deliveries: Sequence[Delivery]) -> tuple[dict[BlobKey, int], dict[BlobKey, int]]:
    """Bytes of each blob that was there before, and of each blob that belongs there; one that several images have in a
    repository counts once."""
    present: dict[BlobKey, int] = {}
    total: dict[BlobKey, int] = {}
    for delivery in deliveries:
        for step in delivery.blobs:
            key = delivery.key(step.descriptor.digest)
            total[key] = step.descriptor.size
            if step.action == "present":
                present[key] = step.descriptor.size
    return present, total


def _image_name(delivery: Delivery) -> str:
    closure = delivery.job.closure
    return f"{closure.source.repository}:{closure.reference}"


def _no_image(reference: str, note: str) -> Row:
    """A failure at the source in the columns of the images."""
    return {
        "image": reference,
        "target": "",
        "state": "failed",
        "bytes": 0,
        "resumed_bytes": 0,
        "seconds": 0.0,
        "uploaded": 0,
        "mounted": 0,
        "manifests": 0,
        "tags": 0,
        "left_out": 0,
        "note": note,
        "digest": "",
    }
