"""Signatures of the Notary Project (notaryproject/specifications, v1), as ``notation`` reads and writes them.

- ``envelope``: what a signature says, in either form, and its rules; ``jws`` and ``cose`` are the forms
- ``signers``: a key with its chain of certificates, which signs
- ``trust``: trust policies and trust stores as ``notation`` keeps them; ``identities``: subjects that are trusted
- ``verify``: an envelope held against a policy, check by check

Attached to images by ``sign.notation``. X.509 and timestamps are ``evidence.x509`` and ``evidence.timestamps``.
"""
