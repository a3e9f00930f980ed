"""Be everywhere: a release with all that belongs to it at every target, and what differs there.

``replicas`` is all of it: the tags that a release has at a target, one copy to several targets, in which each blob
leaves the source once, and the comparison of a target with the source. Discovery, uploads, read-back and receipts are
``transfer``; where a target is, the configuration says.

Nothing here asks whether a release may leave its source: ``chain`` asks the gate before. Only ``chain`` imports this;
mirroring a release uses the same tags and comparison there.
"""
