"""How much unverified input is read: signatures are opened before anybody vouches for them."""

MAX_KEY_BYTES = 64 * 1024
"""A P-256 key file has less than 1 KiB."""

MAX_PAYLOAD_BYTES = 64 * 1024
"""A cosign simple-signing payload has about 250 bytes; annotations of the signer may add some."""

MAX_BUNDLE_BYTES = 32 * 1024 * 1024
"""A bundle carries its statement in base64. A quarter of cosign's own bound (128 MiB, COSIGN_MAX_ATTACHMENT_SIZE), so
that parsing one stays below 200 MB of memory; a CycloneDX document of 700 components has 1 MiB."""

MAX_ATTESTATION_BYTES = 1024 * 1024 * 1024
"""Bundles and envelopes about one digest together. A thousand manifests may carry one blob of 32 MiB, which is pushed
once and would be read a thousand times, by everybody who asks. More fails closed."""

MAX_SIGNATURES = 256
"""Layers of a ``.sig`` or ``.att`` manifest that are checked; one per key and kind is usual."""

MAX_ENVELOPE_SIGNATURES = 16
"""Signatures in one DSSE envelope; cosign writes one."""

MAX_REFERRERS = 2000
"""Referrers of one digest that are opened; a release that is scanned, signed and judged anew every day of a year
(three a day) stays below. More fails closed."""

MAX_SUBJECTS = 4096
"""Subjects of one statement."""
