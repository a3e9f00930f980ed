"""The identities that are believed by a trust root, as ``keys.KeySet`` has keys."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.bundles import Bundle
from registry_pipelines.evidence.identity_rules import IdentityRule
from registry_pipelines.evidence.key_terms import Terms
from registry_pipelines.evidence.keyless.trust_root import TrustRoot, load_trust_roots
from registry_pipelines.evidence.keyless.verify import KeylessSignature, verify_keyless
from registry_pipelines.evidence.predicates import Role


@dataclass(frozen=True)
class Keyless:
    """Trust roots, and whose signatures are believed by them in which role."""

    roots: Sequence[TrustRoot]
    general: Sequence[IdentityRule] = ()
    """For every role that is not in :attr:`roles`, and for statements that are no role's."""
    roles: Mapping[Role, Sequence[IdentityRule]] = field(default_factory=dict)

    def identify(self, bundle: Bundle, terms: Terms) -> str:
        """The id (``keyless:ISSUER SUBJECT``) of who signed a bundle, whether anybody believes that or not.

        Raises SignatureInvalid; KeyRefused for a certificate whose key is revoked.
        """
        found = self._verified(bundle)
        public = found.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        terms.check(f"sha256:{hashlib.sha256(public).hexdigest()}")
        return found.identity.key_id

    def _verified(self, bundle: Bundle) -> KeylessSignature:
        refused: SignatureInvalid | None = None
        for root in self.roots:
            try:
                return verify_keyless(bundle, root)
            except SignatureInvalid as error:
                refused = refused or error
        raise refused or SignatureInvalid("no trust root is given, so no certificate is believed")


def load_keyless(path: Path, general: Sequence[IdentityRule], roles: Mapping[Role, Sequence[IdentityRule]]) -> Keyless:
    """Read a trust root, or several in one file, and believe these identities by it. Raises InputError."""
    return Keyless(load_trust_roots(path), general, roles)
