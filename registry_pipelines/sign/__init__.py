"""Vouch for a release: keys, cosign signatures, attestations in Sigstore bundles, and their verification."""
