"""Read what a message tells of the pull: image, host, who asked, what was missing.

The forms are those of kubelet, containerd, CRI-O, Docker, skopeo, crane, the ECS agent and the clouds' own errors, as
users reported them publicly between 2016 and 2026; ``tests/data/pull_messages.json`` names the reports.
"""

from __future__ import annotations

import re

import msgspec

from registry_pipelines.doctor.model import Patient

MAX_MESSAGE_CHARACTERS = 64 * 1024
"""Of a message that are looked at. A kubelet's is below 2,000; whole logs are pasted, too."""

_IMAGE = (
    re.compile(r"[Ff]ailed to pull image \\?\"([^\"\\\s]+)"),
    re.compile(r"[Bb]ack-off pulling image \\?\"([^\"\\\s]+)"),
    re.compile(r"[Pp]ull(?:ing)?(?: and unpack)? image \\?\"([^\"\\\s]+)"),
    re.compile(r"failed to resolve (?:reference|ref) \\?\"?([^\"\\\s,]+?)\\?\"?: "),
    re.compile(r"docker://([^\s\",]+?):? "),
    re.compile(r"pull access denied for ([^\s,]+),"),
    re.compile(r"[Ff]ailed to apply default image tag \\?\"([^\"\\]+)"),
    re.compile(r"reading manifest \S+ in ([^\s:]+(?::\d+)?/[^\s:]+)"),
)
_URL = re.compile(r"https?://([^/\s\"\\]+)/v2/([a-z0-9._/-]+?)/(?:manifests|blobs|referrers)/([A-Za-z0-9._:-]+)")
_HOST_URL = re.compile(r"https?://([^/\s\"\\]+)/")
_ARN = re.compile(r"User: (arn:aws[a-z-]*:[^\s]+)")
_AWS_ACTION = re.compile(r"not authorized to perform: ([a-z-]+:[A-Za-z]+)")
_AWS_RESOURCE = re.compile(r"on resource: (\S+)")
_AWS_WHY = re.compile(
    r"because no ([a-zA-Z -]+?) allows|with an explicit deny(?: in an? ([a-zA-Z -]+?))?(?=[.,:\"\s]*(?:$|[.,:\"\n\\]))"
)
_GOOGLE = re.compile(
    r"[Pp]ermission \\?[\"']((?:artifactregistry|storage|serviceusage)\.[A-Za-z.]+)\\?[\"']\)? "
    r"(?:is )?(?:denied )?on resource \\?[\"']([^\"'\\]+)"
)
_PLATFORM = (
    re.compile(r"no match(?:ing manifest)? for (?:platform )?((?:linux|windows)/[a-z0-9]+(?:/[a-z0-9]+)?)"),
    re.compile(r"no child with platform ((?:linux|windows)/[a-z0-9]+(?:/[a-z0-9]+)?)"),
)
_CRIO_PLATFORM = re.compile(
    r"for architecture \\?\"?([a-z0-9]+)\\?\"?, ?variant \\?\"?([a-z0-9]*)\\?\"?, OS \\?\"?([a-z]+)"
)
_LOOKUP = re.compile(r"lookup ([A-Za-z0-9.-]+)|dial tcp (?:\S+->)?([0-9.]+:\d+|\[[0-9a-f:]+\]:\d+)")
_EVENT = re.compile(r"\bkubelet\b|ImagePullBackOff|ErrImagePull|rpc error: code|Back-off pulling")


def read_message(text: str, patient: Patient | None = None) -> Patient:
    """What a message tells, added to what was known before; what was known stays. Raises nothing."""
    known, words = patient or Patient(), text[:MAX_MESSAGE_CHARACTERS]
    found = {
        "image": _image(words),
        "message": words,
        **_permission(words),
        "platform": _platform(words),
        "lookup": _lookup(words),
        "kubelet": bool(_EVENT.search(words)),
    }
    return msgspec.structs.replace(known, **{name: value for name, value in found.items() if not getattr(known, name)})


def hosts_in(text: str) -> list[str]:
    """All hosts of addresses in a message, in its order: a layer's comes after the registry's."""
    return list(dict.fromkeys(match[1] for match in _HOST_URL.finditer(text[:MAX_MESSAGE_CHARACTERS])))


def _image(words: str) -> str:
    for pattern in _IMAGE:
        if match := pattern.search(words):
            return match[1].rstrip(":.")
    if match := _URL.search(words):
        host, repository, reference = match.groups()
        host = "docker.io" if host.endswith(".docker.io") else host
        reference = reference.rstrip(":.")
        return f"{host}/{repository}{'@' if ':' in reference else ':'}{reference}"
    return ""


def _permission(words: str) -> dict[str, str]:
    found = {"principal": "", "action": "", "resource": "", "missing_by": ""}
    if match := _ARN.search(words):
        found["principal"] = match[1].rstrip(":,.")
    if match := _AWS_ACTION.search(words):
        found["action"] = match[1]
        if resource := _AWS_RESOURCE.search(words):
            found["resource"] = resource[1].rstrip(':,."')
        if why := _AWS_WHY.search(words):
            found["missing_by"] = why[1] or f"explicit deny{f' in a {why[2]}' if why[2] else ''}"
    elif match := _GOOGLE.search(words):
        found["action"], found["resource"] = match.groups()
    return found


def _platform(words: str) -> str:
    for pattern in _PLATFORM:
        if match := pattern.search(words):
            return match[1].removesuffix("/unknown")
    if match := _CRIO_PLATFORM.search(words):
        architecture, variant, system = match.groups()
        return "/".join(filter(None, (system, architecture, variant)))
    return ""


def _lookup(words: str) -> str:
    match = _LOOKUP.search(words)
    return (match[1] or match[2]) if match else ""
