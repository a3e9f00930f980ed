"""What belongs together: an image with its children, layers, referrers and digest tags; and which images are taken.

``closure`` is the value, ``discovery`` finds it, with ``platforms`` (some children of an index), ``manifests`` (those
read before; ``shared`` by any worker) and ``digest_tags`` (tags named after digests). ``selector`` chooses repositories
and tags, ``choice`` is what a configuration says of that, ``listed`` are the tags to choose from, ``lists`` tells
whether a place names the referrers that it holds. ``omissions`` are the words for what is left out. Stages may import
all of it: mirroring chooses tags, collecting follows digest tags.
"""
