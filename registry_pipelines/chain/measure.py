"""Measure how long a release takes to start on this machine, and attach that, signed: a policy may have a limit."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from registry_pipelines import __version__
from registry_pipelines.chain.promote import require_allowed
from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.start_process import Told, machine_text, run_start
from registry_pipelines.errors import InputError, LocalError, StartFailed
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.promote.documents import TIME_FORMAT
from registry_pipelines.registry.platforms import Entry, read_images
from registry_pipelines.release import Release
from registry_pipelines.stream.model import Record
from registry_pipelines.stream.start_report import StartReport, attach_report, read_reports

TOOL = f"registry-pipelines {__version__}"

STARTS = 3
"""Of which a measurement is the median."""


def measure(session: Session, release: Release) -> StageResult:
    """Start an allowed release here several times, each with nothing of it on this machine, and attach the medians to
    its platform's image, where they say something new.

    ``facts["started_s"]``, ``facts["result_s"]``, and a row for each start. One that this machine cannot start is told
    with the reason, and is no failure. Raises PromotionDenied, InputError (no key of the indexer), StartFailed,
    RegistryError.
    """
    started = time.monotonic()
    image = session.image(release.image)
    settings = (image.stream.record if image.stream else None) or Record()
    require_allowed(session, release)
    place, here = session.source(release), Platform.here()
    images = read_images(place, place.registry.get_manifest(place.repository, release.digest))
    entry = next((each for each in images if here.matches(each.platform)), None)
    if entry is None:
        there = ", ".join(str(each.platform) for each in images)
        return _not_measured(release, f"it is for {there}, and this machine is {here}")
    try:
        starts = [_cold_start(session, release, entry, settings) for _ in range(STARTS)]
    except StartFailed:
        raise
    except (LocalError, InputError) as error:
        return _not_measured(release, f"{error.what}. {error.do}".rstrip(" ."))
    report = _report(release, entry, settings, starts)
    longest = session.policy(release).max_start_time
    longest_s = longest.total_seconds() if longest is not None else None
    attached = attach_report(place, entry.descriptor, report, session.keys.signer("indexer"), longest_s=longest_s)
    late = longest_s is not None and report.result_s > longest_s
    return StageResult(
        stage="measure",
        subject=release.key,
        digest=release.digest,
        action=f"result after {report.result_s:.2f} s" + ("" if attached else " (as measured before)"),
        changed=attached is not None,
        seconds=time.monotonic() - started,
        facts={
            "release": release.key,
            "platforms": 1,
            "platforms_covered": 1,
            **({"started_s": report.started_s} if report.started_s is not None else {}),
            "result_s": report.result_s,
            "fetched_bytes": report.fetched_bytes,
            "pack_bytes": report.pack_bytes,
            "pack": report.pack,
            "until": report.until,
            "machine": report.machine,
        },
        rows=[
            {
                "started_s": "" if each.started_s is None else each.started_s,
                "result_s": each.result_s,
                "fetched_bytes": each.fetched_bytes,
                "pack_bytes": each.pack_bytes,
            }
            for each in starts
        ],
        reasons=[f"{report.result_s:.1f} s are more than `max_start_time`, {longest}"] if late else [],
        notes=list(dict.fromkeys(note for each in starts for note in each.notes)),
    )


def _not_measured(release: Release, why: str) -> StageResult:
    return StageResult(
        stage="measure",
        subject=release.key,
        digest=release.digest,
        action=f"not measured: {why}",
        facts={"release": release.key, "platforms": 1, "platforms_covered": 0},
    )


def measured_where_missing(session: Session, release: Release, images: Sequence[Entry]) -> list[str]:
    """Measure the start of a release that the policy wants measured, unless somebody did; what is to be said of
    that."""
    place, verifier = session.source(release), session.verifier()
    here = [each for each in images if Platform.here().matches(each.platform)]
    if not here or read_reports(place, here[0].digest, verifier)[0]:
        return []
    result = measure(session, release)
    return [f"measured: {result.action}", *result.notes]


def _cold_start(session: Session, release: Release, entry: Entry, settings: Record) -> Told:
    from registry_pipelines.stream.pushing import scratch_folder

    with scratch_folder(session.config.state / "stream") as folder:
        return run_start(session, release.image, entry.digest, settings, folder, cold=True)


def _report(release: Release, entry: Entry, settings: Record, starts: Sequence[Told]) -> StartReport:
    firsts = [each.started_s for each in starts if each.started_s is not None]
    median = sorted(starts, key=lambda each: each.result_s)[len(starts) // 2]
    return StartReport(
        image=entry.digest,
        release=release.digest,
        started_s=statistics.median(firsts) if firsts else None,
        result_s=median.result_s,
        until=settings.until,
        starts=len(starts),
        pack=median.pack,
        pack_bytes=median.pack_bytes,
        fetched_bytes=median.fetched_bytes,
        machine=machine_text(),
        carrier="fuse",
        tool=TOOL,
        time=datetime.now(UTC).strftime(TIME_FORMAT),
    )
