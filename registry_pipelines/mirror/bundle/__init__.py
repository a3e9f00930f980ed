"""Cross a gap without a network: what a mirror brings goes as files on media, and receipts come back.

``format`` says what a bundle is and ``receipt`` what comes back; the near side makes the one and believes the other,
the far side the other way round. docs/bundles.md tells it for users.
"""
