"""A fail-over drill: what real clients do while a registry is down.

``settings`` is what the configuration says of it. ``faults`` are the ways of being down; ``stand_in`` is a server on
loopback that is down so, else passes pulls on by ``relay``, over TLS with an ``authority`` of its own. ``programs``
finds clients; ``containerd`` and ``docker`` start them as daemons of the drill's own (``processes``). ``trying`` runs
cases, ``verdicts`` says what came of them means. ``made`` is an image for drills without a registry. ``model`` has
their values. Imported by ``chain.failover_drill``.
"""
