"""A layer's bytes: decompressed once, its tar walked, its digests and deflate blocks known on the way (image-spec 1.1,
layer.md; RFC 1951 and 1952).

``inflate`` drives zlib-ng through ctypes and stops at deflate blocks; ``gzip_blocks`` reads gzip with it,
``decompress`` every compression by its first bytes. ``tar_bytes`` is the tar as it passes, hashed, its pieces in
``buffers``; ``tar`` reads headers; ``walk`` is the safe walk over the entries. ``checkpoints`` knows where a reader may
begin, ``record`` is what one pass found, ``store`` keeps it for all images; ``pushed`` is a tar that is being made.
``linkage`` collects what a dynamic loader would find in it.
``estargz_footer`` is how one ends that has a table of contents.
Nothing here knows a registry.
Imported by who reads or writes layers: build, scan, stream; by registry for the footer. Imports
errors and ``oci`` only.
"""
