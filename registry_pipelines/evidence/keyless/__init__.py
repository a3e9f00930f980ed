"""Signatures without a key of one's own: who signed a Sigstore bundle with a certificate, found out offline.

An authority (Fulcio) gives a certificate of ten minutes to whoever proves an identity; a log (Rekor) or a timestamp
authority says that the signature was made in those minutes. All that is believed stands in one file, the trust root.

- ``trust_root``: that file; ``bundles`` in the room above reads the bundle
- ``verify``: all steps, in their order
- ``believed``: whose identity is believed, and for what (``identity_rules`` in the room above)
- ``entries``: what a log says of a signature; ``merkle``: that it holds it; ``sct``: that the certificate was published
- ``identity``: who a certificate is for; ``signatures``: what each kind of key signs

Nothing here asks a network. Source: Sigstore's client specification (sigstore/architecture-docs, client-spec.md).
"""
