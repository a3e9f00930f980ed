"""What nodes would do of each image when a registry is gone, and the files of a new order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from registry_pipelines.chain.clusters import endpoint_at
from registry_pipelines.chain.failover import failover_named, files
from registry_pipelines.chain.failover_wanted import Sought, sought
from registry_pipelines.chain.places import address, client_of
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config.failover import below, images_of, repository_with
from registry_pipelines.config.registries import RegistryPlace
from registry_pipelines.errors import RegistryPipelinesError, Unavailable
from registry_pipelines.mirror.clusters.model import Written
from registry_pipelines.mirror.model import ClusterForm
from registry_pipelines.oci.files import write_files
from registry_pipelines.progress import count_text
from registry_pipelines.recover.failover.clients import CLIENTS
from registry_pipelines.recover.failover.dns import Records, Way, records
from registry_pipelines.recover.failover.health import Door, State, shown_certificate, states
from registry_pipelines.recover.failover.model import Dns, Failover
from registry_pipelines.recover.failover.order import order, without_each
from registry_pipelines.recover.failover.standing import Found, look_for
from registry_pipelines.registry.client.distribution import HttpRegistry
from registry_pipelines.registry.client.origins import is_loopback

MOST_TOLD = 20
"""Reasons of one kind; the table has all."""


@dataclass(frozen=True)
class Plan:
    """A fail-over as it stands. asked: registries in the order in which nodes would ask them. names: what is wrong with
    the name of our own, by registry. plain_http: who speaks it."""

    settings: Failover
    states: Mapping[str, State]
    asked: tuple[str, ...]
    sought: Sought
    found: Sequence[Found]
    files: Mapping[ClusterForm, Written]
    dns: Records | None
    names: Mapping[str, str]
    plain_http: Mapping[str, bool]

    @property
    def up(self) -> list[str]:
        """Registries that can serve, in order."""
        return [name for name in self.asked if self.states[name].up]


def failover(
    session: Session, name: str = "", *, images: Sequence[str] = (), to: Path | None = None, dry_run: bool = True
) -> StageResult:
    """Ask the registries of a fail-over, say in which order nodes are to ask them and what they would get of every
    image that channels name, that runs, or that mirrors brought; then write the files of that order below ``to``.

    images: look at these alone: ``IMAGE[:TAG][@DIGEST]``, or references as workloads write them. dry_run: write
    nothing. A dry run is not ``ok`` where a registry is down, or an image has no second place; writing is, as soon as
    every image has a place. No cloud and no name server is changed. Raises InputError, LocalError, Unavailable (none of
    the registries can serve: nothing is written).
    """
    started = time.monotonic()
    plan = plan_of(session, failover_named(session, name), images)
    rows: list[dict[str, Scalar]] = []
    if not dry_run and to is not None:
        if not plan.up:
            why = "; ".join(f"{each.name}: {each.problem}" for each in plan.states.values())
            raise Unavailable(
                f"no registry of it can serve: {why}",
                where=f"failover.{plan.settings.name}",
                do="Nothing was written. See to the first that can be brought back; nodes keep what they have",
            )
        rows = _write(plan, to)
    result = _result(session, plan, rows, dry_run=dry_run, seconds=time.monotonic() - started)
    if to is None or not rows:
        return result
    return replace(result, notes=[*result.notes, *_of_earlier_runs(plan, to)])


def _of_earlier_runs(plan: Plan, to: Path) -> Iterator[str]:
    """Files of another order, which nodes must not get: of forms that cannot say this one, of names that are gone."""
    made = {to / form / path for form, written in plan.files.items() for path in written.files}
    for form, written in plan.files.items():
        if written.wrong and (to / form).exists():
            yield f"{to / form} is of an earlier run, and no more true"
        elif not written.wrong:
            old = sorted(path for path in (to / form).rglob("*") if path.is_file() and path not in made)
            yield from (f"{path} is of an earlier run, and no more true" for path in old[:MOST_TOLD])


def plan_of(session: Session, settings: Failover, images: Sequence[str] = ()) -> Plan:
    """How a fail-over stands now. Raises InputError, LocalError."""
    found = states(_doors(session, settings), settings.health)
    asked = order(list(settings.stands), found)
    up = [name for name in asked if found[name].up]
    wanted = sought(session, settings, up, images) if up else Sought()
    down = {name: state.problem for name, state in found.items() if not state.up}
    ways = [_way(session, settings, name) for name in asked]
    return Plan(
        settings,
        found,
        asked,
        wanted,
        look_for(list(wanted.wanted.values()), asked, down),
        files(session, settings, asked),
        records(settings, settings.dns, ways) if settings.dns else None,
        _names(session, settings, settings.dns, ways) if settings.dns else {},
        {name: endpoint_at(session.config.registries[name]).plain_http for name in asked},
    )


def _doors(session: Session, settings: Failover) -> dict[str, Door]:
    repository, _, digest = settings.health.digest.partition("@")
    return {name: _door(session, settings, name, repository, digest) for name in settings.stands}


def _door(session: Session, settings: Failover, name: str, repository: str, digest: str) -> Door:
    registry = session.config.registries[name]
    limit_s = settings.health.timeout.total_seconds()

    def opened() -> HttpRegistry:
        client = client_of(registry)
        assert isinstance(client, HttpRegistry), "a fail-over has no folder and no store"  # noqa: S101
        return client.hurried(2 * limit_s)  # the look itself ends before that

    dial = _dialled(registry)
    return Door(
        name,
        address(registry),
        opened,
        plain_http=_speaks_plain(registry),
        ca_file=getattr(registry, "ca_file", None),
        dial=dial,
        repository=_known_at(session, settings, name, repository) if repository else "",
        digest=digest,
    )


def _known_at(session: Session, settings: Failover, name: str, repository: str) -> str:
    """Where a repository of the first registry is at another one."""
    own = {at_first: image for image, at_first in images_of(session.config, settings).items()}
    stand = settings.stands[name]
    if repository in own:
        return repository_with(session.config, own[repository], stand, repository)
    return below(stand, repository)


def _dialled(registry: RegistryPlace) -> str:
    """Where it is reached, when that is not its name."""
    return str(getattr(registry, "reachable_as", None) or "") if registry.kind in ("ecr", "gar", "ecr-public") else ""


def _speaks_plain(registry: RegistryPlace) -> bool:
    """As our own client asks it."""
    dial, told = _dialled(registry), getattr(registry, "plain_http", None)
    loopback = bool(dial) and is_loopback(dial.rpartition(":")[0] or dial)
    return endpoint_at(registry).plain_http or (told is None and loopback)


def _way(session: Session, settings: Failover, name: str) -> Way:
    endpoint = endpoint_at(session.config.registries[name])
    stand = settings.stands[name]
    plain = endpoint.plain_http and stand.leads_to is None  # what stands in front of it is there for its certificate
    return Way(name, stand.leads_to or endpoint.host, plain, endpoint.needs_login, stand.health_check)


def _names(session: Session, settings: Failover, dns: Dns, ways: Sequence[Way]) -> dict[str, str]:
    """What a client that follows the name would meet: a certificate of another name."""
    found = {}
    for way in ways:
        registry = session.config.registries[way.name]
        in_front = settings.stands[way.name].leads_to
        if in_front is None and _speaks_plain(registry):
            continue
        try:
            limit_s = settings.health.timeout.total_seconds()
            at = in_front or _dialled(registry) or way.target
            shown_certificate(at, dns.name, getattr(registry, "ca_file", None), limit_s)
        except RegistryPipelinesError as error:
            found[way.name] = error.what
    return found


def _refers(path: str) -> bool:
    """Certificates come before the files that name them: nodes read both at any time."""
    return not path.endswith(".crt")


def _write(plan: Plan, folder: Path) -> list[dict[str, Scalar]]:
    contents = {f"{form}/{path}": raw for form, written in plan.files.items() for path, raw in written.files.items()}
    contents |= {f"dns/{path}": raw for path, raw in (plan.dns.files if plan.dns else {}).items()}
    write_files({folder / path: contents[path] for path in sorted(contents, key=_refers)})
    return [{"file": str(folder / path), "bytes": len(raw)} for path, raw in contents.items()]


def _result(
    session: Session, plan: Plan, written: list[dict[str, Scalar]], *, dry_run: bool, seconds: float
) -> StageResult:
    alone = [each for each in plan.found if len(each.serving) == 1]
    nowhere = [each for each in plan.found if not each.serving]
    missed = list(_missed(plan, nowhere if not dry_run else [*nowhere, *alone]))
    reasons = [*missed, *(_unwell(plan) if dry_run else ())]
    said = f"nodes ask {', then '.join(plan.asked)}; {count_text(len(plan.found), 'image')}"
    said += (
        f", {len(alone) + len(nowhere)} without a second place" if alone or nowhere else ", each with a second place"
    )
    facts: dict[str, Scalar] = {
        "order": ", ".join(plan.asked),
        "registries": len(plan.asked),
        "down": len(plan.asked) - len(plan.up),
        "images": len(plan.found),
        "without_second_place": len(alone) + len(nowhere),
        "nowhere": len(nowhere),
        **{f"answered_s {name}": round(state.seconds, 3) for name, state in plan.states.items()},
    }
    return StageResult(
        stage="failover",
        subject=plan.settings.name,
        action=said,
        changed=bool(written),
        seconds=seconds,
        facts=facts,
        rows=list(_images(plan)),
        tables={
            "health": [_health(plan, state) for state in plan.states.values()],
            "order": list(_orders(plan)),
            "nodes": list(_nodes(plan)),
            **({"files": written} if written else {}),
            **({"dns": _dns_rows(plan), "records": _record_rows(plan.dns)} if plan.dns else {}),
        },
        reasons=reasons,
        next_steps=list(_steps(plan, dry_run=dry_run)),
        notes=[*_notes(plan)] if dry_run else [*_unwell(plan), *_notes(plan), *_form_notes(plan)],
        ok=not reasons,
    )


def _missed(plan: Plan, lacking: Sequence[Found]) -> Iterator[str]:
    """Images that nodes could not pull, now or once one registry more is gone."""
    for each in lacking[:MOST_TOLD]:
        wanted = each.wanted
        there = "; ".join(f"{name} {each.told(name)}" for name in each.at if not each.at[name].serves)
        only = f"only {each.serving[0]} has it" if each.serving else "no registry has it"
        yield f"{wanted.image}@{wanted.digest.short} ({wanted.why}): {only}; {there}"
    if len(lacking) > MOST_TOLD:
        yield f"and {count_text(len(lacking) - MOST_TOLD, 'more image')} without a second place"


def _unwell(plan: Plan) -> Iterator[str]:
    """What else is not as it must be before something happens."""
    for state in plan.states.values():
        if not state.up:
            yield f"{state.name} is down after {count_text(state.looks, 'look')}: {state.problem}"
    for each in plan.found:
        for name, standing in each.at.items():
            if standing.tag:
                names = "nothing" if standing.tag == "-" else f"{standing.tag[:19]}, another image"
                yield f"{each.wanted.image}:{each.wanted.tag} names {names} at {name}: who pulls by tag gets that there"
    if plan.up and not plan.found:
        yield "no image was looked for: no channel names one, and nothing that runs is known"
    yield from plan.sought.problems
    dns = plan.settings.dns
    for name, problem in plan.names.items():
        yield f"{dns.name if dns else ''} cannot lead to {name}: {problem}"


def _steps(plan: Plan, *, dry_run: bool) -> Iterator[str]:
    lacking = {each.wanted.image for each in plan.found if len(each.serving) < len(plan.up)}
    if lacking:
        yield f"Bring them there: `registry-pipelines replicate` or `sync` ({', '.join(sorted(lacking)[:5])})"
    if dry_run and plan.asked != tuple(plan.settings.stands):
        yield f"registry-pipelines recover failover {plan.settings.name} --to FOLDER"
    if not dry_run:
        yield "Bring each folder to its nodes as the notes say, by what else brings files to them"


def _notes(plan: Plan) -> Iterator[str]:
    for form, written in plan.files.items():
        yield from (f"{form} cannot say it: {why}" for why in written.wrong)
    for state in plan.states.values():
        yield from (f"{state.name}: {warning}" for warning in state.warnings)
    unproved = [(each, name) for each in plan.found for name, standing in each.at.items() if standing.unproved]
    for each, name in unproved[:MOST_TOLD]:
        count = count_text(each.at[name].unproved, "piece")
        lacks = f"{name} lacks {count} of its evidence; a gate there may refuse it"
        yield f"{each.wanted.image}@{each.wanted.digest.short}: {lacks}"
    yield from plan.dns.notes if plan.dns else ()


def _form_notes(plan: Plan) -> Iterator[str]:
    """What to do with the files."""
    for form, written in plan.files.items():
        yield from (f"{form}: {note}" for note in written.notes)


def _images(plan: Plan) -> Iterator[dict[str, Scalar]]:
    for each in plan.found:
        yield {
            "image": each.wanted.image,
            "digest": each.wanted.digest,
            "why": each.wanted.why,
            "second place": each.serving[1] if len(each.serving) > 1 else "none",
            **{f"at {name}": each.told(name) for name in each.at},
        }


def _health(plan: Plan, state: State) -> dict[str, Scalar]:
    return {
        "registry": state.name,
        "state": "up" if state.up else "down",
        "seconds": round(state.seconds, 3),
        "looks": state.looks,
        "certificate until": f"{state.ends:%Y-%m-%d}" if state.ends else "",
        "why": state.problem or "; ".join(state.warnings),
    }


def _orders(plan: Plan) -> Iterator[dict[str, Scalar]]:
    yield {"when": "now", "asked": ", ".join(plan.asked), "images that nodes cannot pull": _lost(plan, plan.up)}
    for gone, left in without_each(plan.asked, plan.states).items():
        yield {
            "when": f"{gone} fails",
            "asked": ", ".join(left) or "nobody",
            "images that nodes cannot pull": _lost(plan, left),
        }


def _lost(plan: Plan, left: Sequence[str]) -> int:
    return sum(not set(each.serving) & set(left) for each in plan.found)


def _nodes(plan: Plan) -> Iterator[dict[str, Scalar]]:
    """By form of files and image: where a node gets it now, and what it would do without that registry."""
    images = {(each.wanted.image, tuple(each.serving)): each for each in plan.found}
    plain = plan.plain_http[plan.asked[0]]
    for form, written in plan.files.items():
        client = CLIENTS[form]
        for each in images.values():
            first, *others = each.serving or ("",)
            yield {
                "form": form,
                "read by": client.programs,
                "image": each.wanted.image,
                "gets it from": "cannot be told in this form" if written.wrong else first or "nowhere",
                "else from": "" if written.wrong else others[0] if others else "nowhere",
                "where it stopped": "" if written.wrong else client.stopped,
                "where it is frozen": "" if written.wrong else client.frozen_plain if plain else client.frozen,
            }


def _dns_rows(plan: Plan) -> list[dict[str, Scalar]]:
    dns = plan.settings.dns
    return [
        {
            "name": dns.name if dns else "",
            "leads to": name,
            "certificate": plan.names.get(name, "fits, or is not asked"),
        }
        for name in plan.asked
    ]


def _record_rows(made: Records) -> list[dict[str, Scalar]]:
    """What a name server would be told, to be read before it is."""
    return [{"file": name, "content": raw.decode()} for name, raw in made.files.items()]
