"""What an image is, as values and files: parsed strictly, no network. The lowest room; every other may import it.

``digest``, ``references`` and ``platforms`` are the names of things, parsed once where they come in; ``tags`` reads a
tag as a version. ``manifests`` holds manifests, indexes, configs and descriptors, with ``media_types``; ``referrers``
reads lists of what refers to a manifest. ``layer`` reads layers, once. ``behind`` is where other
machines keep what caches here lack, ``kept_json`` a file of such a cache. ``layout`` is an OCI layout folder,
``layout_index`` its ``index.json``, ``blob_folder`` its blobs. ``elf`` reads what a dynamic loader reads of a file.

``go_json`` reads an image config as the programs do that start images, ``times`` the dates of documents; ``files``
writes a file whole or not at all. It imports ``errors`` alone.
"""
