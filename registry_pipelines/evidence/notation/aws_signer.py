"""Notation signatures that AWS Signer made: what their critical attributes say, and whom a trust policy means by ARNs.

What AWS's own plugin for ``notation`` checks is checked here without it. Sources: the AWS Signer developer guide,
"Image signing prerequisites" and "Manually sign and verify", with its API reference, GetRevocationStatus;
notaryproject/specifications, signing-scheme.md (notary.x509.signingAuthority) and plugin-extensibility.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence

from registry_pipelines.evidence.x509 import Certificate

PLUGIN = "io.cncf.notary.verificationPlugin"
PLUGIN_VERSION = "io.cncf.notary.verificationPluginMinVersion"
PLUGIN_NAME = "com.amazonaws.signer.notation.plugin"
PROFILE_VERSION = "com.amazonaws.signer.signingProfileVersion"
JOB = "com.amazonaws.signer.signingJob"
PROFILE_ALIAS = "com.amazonaws.signer.signingProfileAlias"
ATTRIBUTES = frozenset({PLUGIN, PLUGIN_VERSION, PROFILE_VERSION, JOB, PROFILE_ALIAS})
"""Critical attributes that are understood here, where the plugin that they name is AWS's."""
PLATFORM = "Notation-OCI-SHA384-ECDSA"

_PROFILE = re.compile(
    r"arn:aws[a-z-]*:signer:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):"
    r"/signing-profiles/(?P<name>[A-Za-z0-9_]{2,64})(?:/(?P<version>[A-Za-z0-9]{10}))?"
)


ManagedRevocation = Callable[[Mapping[str, str], float, Sequence[Certificate]], str]
"""Attributes, time of signing (Unix seconds) and chain to why a signature is not known to be good still; empty when
nothing of it was revoked."""


def understood(header: Mapping[str, object], critical: Sequence[object]) -> dict[str, str]:
    """The attributes of AWS Signer in a protected header; none where another plugin is wanted, or they are no texts."""
    named = {str(name): header.get(str(name)) for name in critical if str(name) in ATTRIBUTES}
    if named.get(PLUGIN, PLUGIN_NAME) != PLUGIN_NAME or PROFILE_VERSION not in named:
        return {}
    return {name: value for name, value in named.items() if isinstance(value, str)}


def is_trusted(attributes: Mapping[str, str], identities: Sequence[str]) -> bool:
    """Whether a trust policy names the profile: by its ARN, by that of the very version, or by an alias. ``*`` and
    subjects of certificates name none: AWS's certificates are for everybody who uses AWS Signer."""
    version = attributes.get(PROFILE_VERSION, "")
    match = _PROFILE.fullmatch(version)
    if match is None or not match["version"]:
        return False
    profile, alias = version.rpartition("/")[0], attributes.get(PROFILE_ALIAS, "")
    return any(identity in (version, profile) or (alias and identity == alias) for identity in identities)


def region_of(attributes: Mapping[str, str]) -> str:
    """The region of the profile; empty where it is none of AWS Signer."""
    match = _PROFILE.fullmatch(attributes.get(PROFILE_VERSION, ""))
    return match["region"] if match else ""


def certificate_hashes(chain: Sequence[Certificate]) -> list[str]:
    """As GetRevocationStatus wants them: of each certificate the SHA-384 of what is signed in it, followed by that of
    its issuer's; the root's is its own issuer's."""
    hashes = [hashlib.sha384(one.tbs_certificate_bytes).hexdigest() for one in chain]
    return [own + issuer for own, issuer in zip(hashes, [*hashes[1:], hashes[-1]], strict=True)]
