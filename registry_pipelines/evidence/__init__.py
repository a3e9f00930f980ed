"""Evidence about a digest: keys, signed statements in bundles, and how they are attached, read and verified.

Below the stages: whoever learns something about an image writes it down here and signs it; whoever needs it reads it
here. What a statement says (provenance, SBOM, report, verdict) is the stage's; this room knows in-toto, DSSE,
Sigstore's bundle, cosign's tags, and which key is believed.
"""
