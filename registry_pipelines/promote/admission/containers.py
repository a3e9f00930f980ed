"""The rules for skopeo, podman and CRI-O: containers-policy.json(5) and containers-registries.d(5)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from registry_pipelines.promote.admission.model import Admission
from registry_pipelines.sign.identities import signed_identity
from registry_pipelines.yaml_text import to_yaml

POLICY_FILE, REGISTRIES_FILE = "policy.json", "registries.d/registry-pipelines.yaml"


def containers_files(settings: Admission, sources: Mapping[str, str], keys: Sequence[bytes]) -> dict[str, bytes]:
    """A policy by which an image of ours is pulled when a person's key signed it, and others where they are approved.

    sources: each place of each image (``host/repository``) and the place it is signed in. keys: public keys as PEM that
    are believed for image signatures. It checks who signed, and knows no verdict: only what the gate let pass is
    promoted, and what is signed may have been denied afterwards.

    With ``require_digests`` the identity in the signature is compared by rules that let no tag pass but the one that
    was signed, ``matchRepoDigestOrExact`` and at replicas ``remapIdentity``; else every tag of the repository passes.
    """
    rules = {name: [_signed(settings, name, source, keys)] for name, source in sources.items()}
    rules |= {each.images: [{"type": "insecureAcceptAnything"}] for each in settings.approved}
    policy = {"default": [{"type": "reject"}], "transports": {"docker": dict(sorted(rules.items()))}}
    attachments = {"docker": {name: {"use-sigstore-attachments": True} for name in sorted(sources)}}
    return {POLICY_FILE: json.dumps(policy, indent=2).encode() + b"\n", REGISTRIES_FILE: to_yaml(attachments)}


def _signed(settings: Admission, name: str, source: str, keys: Sequence[bytes]) -> dict[str, Any]:
    encoded = [base64.b64encode(key).decode() for key in keys]
    data: dict[str, Any] = {"keyData": encoded[0]} if len(encoded) == 1 else {"keyDatas": encoded}
    return {"type": "sigstoreSigned", **data, "signedIdentity": _identity(settings, name, source)}


def _identity(settings: Admission, name: str, source: str) -> dict[str, str]:
    if not settings.require_digests:
        return signed_identity(source, name)
    if name == source:
        return {"type": "matchRepoDigestOrExact"}
    return {"type": "remapIdentity", "prefix": name, "signedPrefix": source}


__all__ = ["containers_files"]
