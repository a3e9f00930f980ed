"""Samples to who is told: a file, AWS, Google, a collector. Each within its limits; what it does not take is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from registry_pipelines.chain.session import Session
from registry_pipelines.config.clouds import GarRegistry
from registry_pipelines.errors import InputError, RegistryError, RegistryPipelinesError, Unavailable
from registry_pipelines.oci.times import read_time, write_time
from registry_pipelines.report.metrics.model import Collected, Sample
from registry_pipelines.report.metrics.settings import Destination
from registry_pipelines.shared.documents import Documents

MOST_ANSWER_BYTES = 1024 * 1024
COLLECTOR_S = 30.0
MOST_NAMED = 5
POINTS_APART = timedelta(seconds=5)
"""Of a series; source: Google's page "Quotas and limits" of Cloud Monitoring."""
DIFFERENT = 0.05
"""Google's bytes are of another hour than ours, and count what was just deleted: less of a difference says nothing."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """samples, calls: that were taken. left_out: samples that were not sent. problems: what was refused."""

    samples: int
    calls: int = 1
    left_out: int = 0
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


Send = Callable[[Collected], Sent]


def sender(session: Session, name: Destination, *, file: Path | None = None) -> Send:
    """How somebody is told. Raises InputError where the configuration does not say where that is."""
    settings = session.config.report.metrics
    match name:
        case "prometheus":
            path = file or settings.file
            if path is None:
                raise InputError("no file is named for Prometheus", do="Write report.metrics.file, or name --file")
            return _to_file(path)
        case "cloudwatch":
            if settings.cloudwatch is None:
                raise _unsaid(name)
            return _to_cloudwatch(session, settings.cloudwatch.registry, settings.cloudwatch.namespace)
        case "monitoring":
            if settings.monitoring is None:
                raise _unsaid(name)
            return _to_monitoring(session, settings.monitoring.registry)
        case "otlp":
            if settings.otlp is None:
                raise _unsaid(name)
            headers = {each: secret.reveal() for each, secret in settings.otlp.headers.items()}
            return _to_collector(settings.otlp.url, headers)


def _unsaid(name: str) -> InputError:
    return InputError(f"the configuration says nothing of {name}", do=f"Write report.metrics.{name} (docs/metrics.md)")


def _to_file(path: Path) -> Send:
    from registry_pipelines.report.metrics.prometheus import check_file, families_of, text_of, write_text

    check_file(path)

    def send(collected: Collected) -> Sent:
        write_text(path, text_of(families_of(collected.samples)))
        return Sent(samples=len(collected.samples))

    return send


def _named(left: Sequence[str]) -> tuple[str, ...]:
    more = len(left) - MOST_NAMED
    return (*left[:MOST_NAMED], *([f"{more} more are left out"] if more > 0 else []))


def _to_cloudwatch(session: Session, registry: str, namespace: str) -> Send:
    from registry_pipelines.report.metrics.cloudwatch import calls_of

    settings, aws = session.places.ecr(registry)
    where = f"{settings.account} in {settings.region}"

    def send(collected: Collected) -> Sent:
        calls, left = calls_of(collected.samples, namespace=namespace, now=session.now())
        done, problems = 0, []
        for call in calls:
            try:
                aws.call("put_metric_data", where=where, service="cloudwatch", **call)
                done += len(call["MetricData"])
            except RegistryPipelinesError as error:
                problems.append(str(error))
        return Sent(
            samples=done,
            calls=len(calls),
            left_out=len(collected.samples) - done,
            notes=_named(left),
            problems=tuple(dict.fromkeys(problems)),
        )

    return send


def _google(session: Session, registry: str) -> tuple[GarRegistry, Any]:
    from registry_pipelines.infra.gar.asking import Asking

    settings = session.config.registries[registry]
    if not isinstance(settings, GarRegistry):
        raise InputError(f"{registry} is of kind {settings.kind}", do="Name a registry of kind gar")
    return settings, Asking(session.places.google(settings), project=settings.project, location=settings.location)


def _to_monitoring(session: Session, registry: str) -> Send:
    from registry_pipelines.report.metrics import monitoring

    settings, google = _google(session, registry)
    kept = session.documents.under("report")
    name = f"projects/{settings.project}"

    def ask(verb: str, path: str, body: dict[str, Any] | None, doing: str, right: str) -> dict[str, Any]:
        found: dict[str, Any] = google.rest(
            verb, "monitoring", f"/v3/{name}/{path}", doing=doing, where=name, permission=right, body=body
        )
        return found

    def send(collected: Collected) -> Sent:
        _not_before(kept, collected.time)
        calls, left = monitoring.calls_of(collected.samples, project=settings.project, now=session.now())
        for each in monitoring.descriptors(sample.name for sample in collected.samples):
            doing = "describing a metric"
            ask("POST", "metricDescriptors", each, doing, "monitoring.metricDescriptors.create")
        done, problems = 0, []
        for call in calls:
            try:
                ask("POST", "timeSeries", call, "writing metrics", "monitoring.timeSeries.create")
                done += len(call["timeSeries"])
            except RegistryError as error:
                problems.append(str(error))
        if done:
            kept.write(LAST, write_time(collected.time).encode())
        notes = [*_named(left), *_held_against(collected.samples, settings, ask)]
        return Sent(
            samples=done,
            calls=len(calls),
            left_out=len(collected.samples) - done,
            notes=tuple(notes),
            problems=tuple(dict.fromkeys(problems)),
        )

    return send


LAST = "monitoring-last"


def _not_before(kept: Documents, now: datetime) -> None:
    """Cloud Monitoring takes no point that is not later than the last one of its series. Raises Unavailable where this
    machine's clock went back: what was sent then stands in the way until it is later again."""
    last = kept.read(LAST)
    before = read_time(last.content[:40].decode(errors="replace")) if last else None
    if before is not None and before <= now < before + POINTS_APART:
        raise Unavailable(
            f"the last numbers were sent at {before:%H:%M:%S}; Cloud Monitoring takes a point every five seconds",
            do="Run it again in five seconds",
        )
    if before is not None and now < before:
        raise Unavailable(
            f"the last numbers were sent at {before:%Y-%m-%dT%H:%M:%SZ}, and now it is {now:%Y-%m-%dT%H:%M:%SZ}: "
            "a clock went back, and older points are refused",
            do="Correct the clock of this machine; nothing is sent until it is later",
        )


def _held_against(samples: Sequence[Sample], settings: GarRegistry, ask: Callable[..., dict[str, Any]]) -> list[str]:
    """Our bytes beside those that Artifact Registry tells Cloud Monitoring by itself, in words; that is no more than a
    look, so what goes wrong with it is told, too."""
    from urllib.parse import urlencode

    from registry_pipelines.report.metrics.monitoring import compared, own_filter, own_sizes

    ours = [each for each in samples if each.name == "repository_bytes" and each.labels["registry"] == settings.name]
    if not ours:
        return []
    end = ours[0].time
    query = {
        "filter": own_filter(settings.location),
        "interval.startTime": write_time(end - timedelta(days=1)),
        "interval.endTime": write_time(end),
    }
    listed: list[dict[str, Any]] = []
    try:
        while True:
            path = f"timeSeries?{urlencode(query)}"
            answer = ask("GET", path, None, "reading Google's own metric", "monitoring.timeSeries.list")
            listed += answer.get("timeSeries", ())
            if not answer.get("nextPageToken") or len(listed) > MOST_OWN:
                break
            query["pageToken"] = answer["nextPageToken"]
    except RegistryPipelinesError as error:
        return [f"Google's own bytes could not be read: {error}"]
    rows = compared(samples, own_sizes(listed), settings.name, project=settings.project)
    apart = [each for each in rows if abs(int(each["ours"]) - int(each["google"])) > DIFFERENT * int(each["google"])]
    told = [f"{each['repository']}: {each['ours']} bytes by us, {each['google']} by Google" for each in apart]
    return [*_named(told)] or [f"Google's own bytes agree, of {len(rows)}"]


MOST_OWN = 10_000


def _to_collector(url: str, headers: dict[str, str]) -> Send:
    from registry_pipelines.evidence.web import ask
    from registry_pipelines.report.metrics.otel import CONTENT_TYPE, PATH, refused, requests_of

    parts = urlsplit(url)
    whole = url if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}{PATH}"
    where = f"the collector at {parts.hostname}"

    def send(collected: Collected) -> Sent:
        bodies = requests_of(collected.samples)
        problems: list[str] = []
        for body in bodies:
            answer = ask(
                whole,
                where=where,
                limit=MOST_ANSWER_BYTES,
                timeout_s=COLLECTOR_S,
                body=body,
                content_type=CONTENT_TYPE,
                headers=headers,
            )
            problems += [why] if (why := refused(answer)) else []
        return Sent(samples=len(collected.samples), calls=len(bodies), problems=tuple(problems))

    return send


__all__ = ["Sent", "sender"]
