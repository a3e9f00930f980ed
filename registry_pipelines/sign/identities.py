"""What a policy of containers/image (skopeo, podman, CRI-O) says of the identity in a ``.sig``, at a copy.

Its rules ``matchRepoDigestOrExact``, which is the one that holds where a policy names none, and ``remapIdentity``
refuse each signature whose identity has no tag, as cosign's have none; so releases are signed with their version tag.
"""

from __future__ import annotations


def signed_identity(signed: str, pulled: str) -> dict[str, str]:
    """The ``signedIdentity`` of a rule about what is pulled from ``pulled`` and was signed as ``signed``
    (containers-policy.json, "sigstoreSigned").

    Both are repositories (``registry.example/app``), or both hosts, or prefixes of repositories. One repository is
    named exactly, which admits its digests and all its tags. With hosts or prefixes the whole registry is remapped:
    that admits digests, and of tags the one that was signed.
    """
    if signed == pulled:
        return {"type": "matchRepository"}
    if "/" in signed and "/" in pulled:
        return {"type": "exactRepository", "dockerRepository": signed}
    return {"type": "remapIdentity", "prefix": pulled, "signedPrefix": signed}
