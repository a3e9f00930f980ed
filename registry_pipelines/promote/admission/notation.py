"""The rules for ``notation``: a trust policy and its trust store (notaryproject/specifications, "Trust Store and Trust
Policy")."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from registry_pipelines.promote.admission.model import Admission

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

STORE = "registry-pipelines"


def notation_files(
    settings: Admission,
    places: Mapping[str, Sequence[str]],
    chain: Sequence[Certificate],
    stamps: Sequence[Certificate] = (),
) -> dict[str, bytes]:
    """What belongs below ``~/.config/notation``: images of ours at all their places, signed by the holder of the first
    certificate of ``chain``, and nothing else.

    places: of each image by name, as ``host/repository``. chain: from the signing certificate to its root. stamps:
    roots of the timestamp authority, where there is one. Approved images are not in it: a scope of a trust policy is a
    whole repository. It checks who signed, and knows no verdict.
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    from registry_pipelines.evidence.notation.identities import write_subject

    stores = {"ca": chain[-1:], "tsa": stamps}
    used = [f"{kind}:{STORE}" for kind, certificates in stores.items() if certificates]
    statements: list[dict[str, Any]] = [
        {
            "name": image,
            "registryScopes": sorted(names),
            "signatureVerification": {"level": "strict"},
            "trustStores": used,
            "trustedIdentities": [f"x509.subject: {write_subject(chain[0])}"],
        }
        for image, names in sorted(places.items())
    ]
    files = {"trustpolicy.json": json.dumps({"version": "1.0", "trustPolicies": statements}, indent=2).encode() + b"\n"}
    for kind, certificates in stores.items():
        for number, certificate in enumerate(certificates):
            path = f"truststore/x509/{kind}/{STORE}/{number}.pem"
            files[path] = certificate.public_bytes(Encoding.PEM)
    return files


__all__ = ["notation_files"]
