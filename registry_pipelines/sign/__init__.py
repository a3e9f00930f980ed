"""Vouch for a release: sign the image, attest what is attached to it, and verify both.

``release`` is the stage: it signs the top manifest of a release and attests provenance, SBOMs and the newest report
where their makers did not sign them. ``cosign`` makes and checks one image's signature, in both forms that cosign
reads (the ``.sig`` tag and a bundle), ``notation`` makes and checks those of the Notary Project. What a signature or an
attestation is, and which key is believed for what, is ``evidence``, below.

Nothing here decides whether a release ships: whether a report may be attested is asked of the caller. ``chain`` and the
command line use the stage; ``promote`` reads signatures with ``cosign`` and nothing else of it.
"""
