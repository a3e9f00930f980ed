"""From what a person has in hand to answers: a message, or the failed pulls of pods. Asks nothing."""

from __future__ import annotations

from registry_pipelines.doctor.causes import explain
from registry_pipelines.doctor.clues import hosts_in, read_message
from registry_pipelines.doctor.hosts import Host, read_image, read_place
from registry_pipelines.doctor.model import Answer, Patient
from registry_pipelines.doctor.rules import rule_of


def diagnose(message: str) -> list[Answer]:
    """The causes that a message tells, the one that keeps the image away first. Never empty: what no rule knows is
    told as ``unknown``."""
    return diagnose_patient(read_message(message))


def diagnose_patient(patient: Patient) -> list[Answer]:
    """The same of a pull of which more is known than its message."""
    found = rule_of(patient.message, patient.reason)
    if found is None:
        return [explain("unknown", patient, evidence=_said(patient), sure=False), *_notes(patient)]
    rule, words = found
    return [explain(rule.cause, patient, evidence=(words,), sure=rule.sure), *_notes(patient)]


def host_of(patient: Patient) -> Host:
    """The registry that the pull is about; one without name where nothing tells it."""
    if found := read_image(patient.image):
        return found[0]
    hosts = hosts_in(patient.message)
    return read_place(hosts[0]) if hosts else Host(name="", kind="registry")


def _said(patient: Patient) -> tuple[str, ...]:
    said = (patient.message.strip() or patient.reason)[:240]
    return (said,) if said else ()


def _notes(patient: Patient) -> list[Answer]:
    return [note for note in (_pods_role(patient), far_away(patient)) if note]


def _pods_role(patient: Patient) -> Answer | None:
    """A pod with a role of its own, which people take for the one that pulls."""
    if not patient.pod_role or host_of(patient).kind != "ecr":
        return None
    return Answer(
        cause="pods-role",
        what=f"the pod's own role ({patient.pod_role}) does not pull: the kubelet uses the node's",
        evidence=("AWS_ROLE_ARN of the pod",),
        do="Give the right to pull to the node's role",
        note=True,
    )


def far_away(patient: Patient) -> Answer | None:
    """The node is in another region or cloud than the registry: it may pull, slowly and for money."""
    host = host_of(patient)
    cloud = {"ecr": "aws", "gar": "gcp", "gcr": "gcp"}.get(host.kind, "")
    if not (patient.node_region and host.region and cloud):
        return None
    other_cloud = bool(patient.node_cloud) and patient.node_cloud != cloud
    if not other_cloud and _near(patient.node_region, host):
        return None
    return Answer(
        cause="far-away",
        what=f"the node is in {patient.node_region}{' of another cloud' if other_cloud else ''}, the image in "
        f"{host.region}: "
        "every pull crosses regions, takes longer and is paid by the byte",
        evidence=(f"node {patient.node}", host.name),
        do="Replicate to the node's region and pull there; see `registry-pipelines advise`",
        command=f"registry-pipelines advise {patient.image or host.name} --nodes {patient.node_region}",
        note=True,
    )


def _near(region: str, host: Host) -> bool:
    """In one region, or in the multi-region that holds it (us, europe, asia)."""
    return region == host.region or (host.kind in ("gar", "gcr") and region.startswith(f"{host.region}-"))
