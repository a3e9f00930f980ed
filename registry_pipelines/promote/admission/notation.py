"""The rules for ``notation``: a trust policy and its trust store (notaryproject/specifications, "Trust Store and Trust
Policy")."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from registry_pipelines.errors import InputError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

STORE = "registry-pipelines"


def notation_files(
    places: Mapping[str, Sequence[str]],
    certificates: Sequence[Certificate],
    stamps: Sequence[Certificate] = (),
) -> dict[str, bytes]:
    """What belongs below ``~/.config/notation``: images of ours at all their places, signed by whom the one
    certificate that is no authority names, and nothing else.

    places: of each image by name, as ``host/repository``. certificates: that and its chain up to the root. stamps:
    roots of the timestamp authority, where there is one. Approved images are not in it: a scope of a trust policy is a
    whole repository. It checks who signed, and knows no verdict.
    Raises InputError: these certificates make no policy.
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    from registry_pipelines.evidence.notation.identities import read_subject, write_subject
    from registry_pipelines.evidence.x509 import is_authority, is_self_signed

    leaves = [each for each in certificates if not is_authority(each)]
    roots = [each for each in certificates if is_self_signed(each) and is_authority(each)]
    if len(leaves) != 1 or not roots:
        what = f"among the certificates are {len(leaves)} that sign and {len(roots)} roots"
        raise InputError(
            what, where="signing.notation.certificates", do="Name one that signs, and its chain to the root"
        )
    subject = write_subject(leaves[0])
    read_subject(subject)  # what notation takes in a policy: country, state and organisation must be there
    stores = {"ca": roots, "tsa": stamps}
    used = [f"{kind}:{STORE}" for kind, trusted in stores.items() if trusted]
    statements: list[dict[str, Any]] = [
        {
            "name": image,
            "registryScopes": sorted(names),
            "signatureVerification": {"level": "strict"},
            "trustStores": used,
            "trustedIdentities": [f"x509.subject: {subject}"],
        }
        for image, names in sorted(places.items())
    ]
    files = {"trustpolicy.json": json.dumps({"version": "1.0", "trustPolicies": statements}, indent=2).encode() + b"\n"}
    for kind, trusted in stores.items():
        for number, certificate in enumerate(trusted):
            path = f"truststore/x509/{kind}/{STORE}/{number}.pem"
            files[path] = certificate.public_bytes(Encoding.PEM)
    return files


__all__ = ["notation_files"]
