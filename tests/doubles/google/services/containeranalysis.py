"""grafeas.v1 and google.devtools.containeranalysis.v1: notes, occurrences, filters, counts."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from google.cloud.devtools import containeranalysis_v1 as analysis
from google.cloud.devtools.containeranalysis_v1.services.container_analysis.transports import (
    rest_base as analysis_rest,
)
from google.cloud.devtools.containeranalysis_v1.services.container_analysis.transports.grpc import (
    ContainerAnalysisGrpcTransport,
)
from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask
from grafeas import grafeas_v1 as api
from grafeas.grafeas_v1.services.grafeas.transports import rest_base as grafeas_rest
from grafeas.grafeas_v1.services.grafeas.transports.grpc import GrafeasGrpcTransport

from tests.doubles.google.contract import read_methods
from tests.doubles.google.doors import Service
from tests.doubles.google.services import iam_policy
from tests.doubles.google.world import Refusal, World, page

_CLAUSE = re.compile(r'\s*(resourceUrl|resource_url|resourceUri|kind|noteId|noteProjectId)\s*=\s*"([^"]*)"\s*')


@dataclass
class Analysis:
    """Notes and occurrences by resource name."""

    notes: dict[str, api.Note] = field(default_factory=dict)
    occurrences: dict[str, api.Occurrence] = field(default_factory=dict)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))


def _detail(message: Any, oneof: str) -> str:
    return type(message).pb(message).WhichOneof(oneof) or ""


def _copy(message: Any) -> Any:
    made = type(message)()
    type(message).copy_from(made, message)
    return made


def create_note(world: World, request: api.CreateNoteRequest) -> api.Note:
    state = world.state(Analysis)
    name = f"{request.parent}/notes/{request.note_id}"
    if name in state.notes:
        raise Refusal(
            "ALREADY_EXISTS", f"note with ID {request.note_id!r} for project {request.parent!r} already exists"
        )
    made = _copy(request.note)
    kind = _detail(made, "type")
    if not kind:
        raise Refusal("INVALID_ARGUMENT", "note: one of its types must be set")
    made.name, made.kind = name, api.NoteKind[kind.upper()]
    made.create_time = made.update_time = world.now()
    state.notes[name] = made
    return made


def get_note(world: World, request: api.GetNoteRequest) -> api.Note:
    return _note(world, request.name)


def _note(world: World, name: str) -> api.Note:
    if name not in world.state(Analysis).notes:
        raise Refusal("NOT_FOUND", f"note {name!r} not found")
    return world.state(Analysis).notes[name]


def update_note(world: World, request: api.UpdateNoteRequest) -> api.Note:
    """UpdateNote: fields of the mask; without one, all that the request sets (AIP-134)."""
    note = api.Note.pb(_note(world, request.name))
    new = api.Note.pb(request.note)
    paths = list(request.update_mask.paths) or [field.name for field, _ in new.ListFields() if field.name != "name"]
    mask = FieldMask(paths=paths)
    if not mask.IsValidForDescriptor(note.DESCRIPTOR):
        raise Refusal("INVALID_ARGUMENT", f"update_mask: invalid paths {', '.join(paths)}")
    mask.MergeMessage(new, note, replace_message_field=True, replace_repeated_field=True)
    made = api.Note.deserialize(note.SerializeToString())
    made.update_time = world.now()
    world.state(Analysis).notes[request.name] = made
    return made


def list_notes(world: World, request: api.ListNotesRequest) -> api.ListNotesResponse:
    notes = world.state(Analysis).notes
    found = [notes[name] for name in sorted(notes) if name.startswith(request.parent + "/")]
    part, after = page(found, request.page_size, request.page_token, usual=20)
    return api.ListNotesResponse(notes=part, next_page_token=after)


def delete_note(world: World, request: api.DeleteNoteRequest) -> Empty:
    _note(world, request.name)
    del world.state(Analysis).notes[request.name]
    return Empty()


def create_occurrence(world: World, request: api.CreateOccurrenceRequest) -> api.Occurrence:
    """Of a note that is there, whose kind is the occurrence's."""
    state = world.state(Analysis)
    made = _copy(request.occurrence)
    note = _note(world, made.note_name)
    kind = _detail(made, "details")
    if not kind or api.NoteKind[kind.upper()] != note.kind:
        raise Refusal("INVALID_ARGUMENT", f"occurrence: its details ({kind or 'none'}) are not of the note's kind")
    if not made.resource_uri:
        raise Refusal("INVALID_ARGUMENT", "occurrence.resource_uri: required")
    made.kind = note.kind
    made.name = f"{request.parent}/occurrences/{next(state.numbers):08x}-1111-4000-8000-000000000000"
    made.create_time = made.update_time = world.now()
    state.occurrences[made.name] = made
    return made


def get_occurrence(world: World, request: api.GetOccurrenceRequest) -> api.Occurrence:
    return _occurrence(world, request.name)


def _occurrence(world: World, name: str) -> api.Occurrence:
    if name not in world.state(Analysis).occurrences:
        raise Refusal("NOT_FOUND", f"occurrence {name!r} not found")
    return world.state(Analysis).occurrences[name]


def delete_occurrence(world: World, request: api.DeleteOccurrenceRequest) -> Empty:
    _occurrence(world, request.name)
    del world.state(Analysis).occurrences[request.name]
    return Empty()


def _fits(text: str, each: api.Occurrence) -> bool:
    for clause in re.split(r"\s+AND\s+", text.strip()) if text.strip() else ():
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise Refusal("INVALID_ARGUMENT", f"filter: cannot be parsed: {text}")
        values = {
            "resourceUrl": each.resource_uri,
            "resource_url": each.resource_uri,
            "resourceUri": each.resource_uri,
            "kind": each.kind.name,
            "noteProjectId": each.note_name.split("/")[1],
            "noteId": each.note_name.rpartition("/")[2],
        }
        if values[match[1]] != match[2]:
            return False
    return True


def list_occurrences(world: World, request: api.ListOccurrencesRequest) -> api.ListOccurrencesResponse:
    kept = world.state(Analysis).occurrences
    found = [kept[name] for name in sorted(kept) if name.startswith(request.parent + "/")]
    part, after = page(
        [each for each in found if _fits(request.filter, each)], request.page_size, request.page_token, usual=20
    )
    return api.ListOccurrencesResponse(occurrences=part, next_page_token=after)


def list_note_occurrences(world: World, request: api.ListNoteOccurrencesRequest) -> api.ListNoteOccurrencesResponse:
    _note(world, request.name)
    kept = world.state(Analysis).occurrences
    found = [kept[name] for name in sorted(kept) if kept[name].note_name == request.name]
    part, after = page(
        [each for each in found if _fits(request.filter, each)], request.page_size, request.page_token, usual=20
    )
    return api.ListNoteOccurrencesResponse(occurrences=part, next_page_token=after)


def summarise(
    world: World, request: analysis.GetVulnerabilityOccurrencesSummaryRequest
) -> analysis.VulnerabilityOccurrencesSummary:
    """Findings by resource and severity, with how many of them have a fix."""
    counts: Counter[tuple[str, int]] = Counter()
    fixable: Counter[tuple[str, int]] = Counter()
    for each in world.state(Analysis).occurrences.values():
        if (
            each.kind == api.NoteKind.VULNERABILITY
            and each.name.startswith(request.parent)
            and _fits(request.filter, each)
        ):
            key = (each.resource_uri, int(each.vulnerability.effective_severity))
            counts[key] += 1
            fixable[key] += bool(each.vulnerability.fix_available)
    kind = analysis.VulnerabilityOccurrencesSummary.FixableTotalByDigest
    return analysis.VulnerabilityOccurrencesSummary(
        counts=[
            kind(resource_uri=uri, severity=severity, total_count=total, fixable_count=fixable[(uri, severity)])
            for (uri, severity), total in sorted(counts.items())
        ]
    )


GRAFEAS = Service(
    "grafeas",
    read_methods(GrafeasGrpcTransport, grafeas_rest._BaseGrafeasRestTransport),
    {
        "CreateNote": create_note,
        "GetNote": get_note,
        "UpdateNote": update_note,
        "ListNotes": list_notes,
        "DeleteNote": delete_note,
        "CreateOccurrence": create_occurrence,
        "GetOccurrence": get_occurrence,
        "DeleteOccurrence": delete_occurrence,
        "ListOccurrences": list_occurrences,
        "ListNoteOccurrences": list_note_occurrences,
    },
    {
        "ListOccurrences": "containeranalysis.occurrences.list",
        "GetOccurrence": "containeranalysis.occurrences.get",
        "CreateOccurrence": "containeranalysis.occurrences.create",
        "CreateNote": "containeranalysis.notes.create",
        "ListNoteOccurrences": "containeranalysis.notes.listOccurrences",
    },
)
ANALYSIS = Service(
    "containeranalysis",
    read_methods(ContainerAnalysisGrpcTransport, analysis_rest._BaseContainerAnalysisRestTransport),
    {"GetVulnerabilityOccurrencesSummary": summarise, **iam_policy.HANDLERS},
    {"GetVulnerabilityOccurrencesSummary": "containeranalysis.occurrences.list"},
)
