"""Where images live: one protocol and a client for each kind of place. All rooms above may import it; below are ``oci``
and the modules beside the rooms.

``protocol`` is what the others program against: ``Registry``, ``Place`` (a registry and a repository), and the small
protocols of what only some places can do. ``remote`` chooses the client of a host: ``ecr`` for Amazon ECR, ``client``
for every other registry; ``layout`` is a folder, ``stored`` an object store; ``embedded`` is a server of our own, which
only commands and tests start.

The other modules ask any registry: ``blobs`` for small content, ``tags`` what a name stands for, ``platforms`` for
every entry below an index, ``choices`` which of them a client starts, ``image_warnings`` what may surprise whoever
starts it (``warning_kinds``), ``hidden`` for tags that the registry does not list.
"""
