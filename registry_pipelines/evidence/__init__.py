"""Evidence about a digest: keys, signed statements in bundles, and how they are attached, read and verified.

Below the stages: whoever learns something about an image writes it down here and signs it; whoever needs it reads it
here. What a statement says (provenance, SBOM, report, verdict) is the stage's; this room knows in-toto, DSSE,
Sigstore's bundle, cosign's tags, and which key is believed.

- the doors: ``attestations`` (sign and attach, read and verify), ``artifacts`` (attach and find documents, unsigned)
- keys: ``keys`` (sign, believe), ``key_files`` and ``cosign_key`` (their forms), ``predicates`` (whose key for what)
- certificates: ``x509`` (chains, and what a certificate may sign), ``timestamps`` (RFC 3161; ``der`` below it)
  which a ``timestamp_authority`` gives
- formats: ``statements`` in an envelope (``dsse``) in ``bundles``; ``tagged`` for cosign's older tags; ``notation``
  has the Notary Project's own (``cbor`` below it)
- ``referrers`` reads what others attached, ``bounds`` says how much of it, ``model`` has the protocols and answers

Every stage, ``chain`` and the command line may import it; it imports ``registry`` and what is below.
"""
