"""Ask Artifact Analysis for what it knows about an image: wait for its scan, and fetch every page."""

from __future__ import annotations

from registry_pipelines.errors import RegistryError
from registry_pipelines.registry.gar.calls import GoogleCalls
from registry_pipelines.scan.clouds.google import Occurrence, status_of
from registry_pipelines.scan.clouds.states import GOOGLE_WAITING
from registry_pipelines.scan.clouds.waiting import Waiting

PAGE = 1000
"""The service's largest page."""
MAX_OCCURRENCES = 100_000
"""A distribution image with kernel headers has some 3,000."""


def list_occurrences(calls: GoogleCalls, project: str, query: str, *, where: str) -> list[Occurrence]:
    """All occurrences of a project that a filter takes, as JSON. Raises the RegistryError family."""
    from google.protobuf.json_format import MessageToDict
    from grafeas.grafeas_v1 import GrafeasClient

    client = calls.client(GrafeasClient)
    request = {"parent": f"projects/{project}", "filter": query, "page_size": PAGE}
    found: list[Occurrence] = []
    for each in calls.pages(client.list_occurrences, request, "occurrences", where=where, doing="reading scan results"):
        found.append(MessageToDict(type(each).pb(each)))
        if len(found) > MAX_OCCURRENCES:
            raise RegistryError(f"there are more than {MAX_OCCURRENCES} scan results", where=where)
    return found


def ask_google(
    calls: GoogleCalls, project: str, resources: list[str], waiting: Waiting
) -> tuple[list[Occurrence], list[Occurrence]]:
    """Discovery and vulnerability occurrences of the first of these resources that has any.

    resources: ``https://host/path@sha256:...``. A scan that has not ended, or is not known, is waited for. Raises the
    RegistryError family.
    """
    discoveries: list[Occurrence] = []
    while True:
        for resource in resources:
            query = f'kind="DISCOVERY" AND resourceUrl="{resource}"'
            discoveries = list_occurrences(calls, project, query, where=resource)
            status = status_of(discoveries)
            if status and status not in GOOGLE_WAITING:
                query = f'kind="VULNERABILITY" AND resourceUrl="{resource}"'
                return discoveries, list_occurrences(calls, project, query, where=resource)
            if status:
                break
        if not waiting.again():
            return discoveries, []
