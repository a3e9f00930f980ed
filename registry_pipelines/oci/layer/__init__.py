"""A layer's bytes: decompressed once, its tar walked, its digests and deflate blocks known on the way (image-spec 1.1,
layer.md; RFC 1951 and 1952).

``inflate`` drives zlib-ng through ctypes and stops at deflate blocks; ``decompress`` is every compression by its first
bytes; ``tar`` reads headers; ``walk`` is the safe walk over the entries. Nothing here knows a registry.
Imported by who reads or writes layers: build, scan, stream. Imports errors and ``oci`` only.
"""
