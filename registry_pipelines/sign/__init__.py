"""Vouch for a release: cosign's image signatures, attestations of what is attached, and their verification."""
