"""What registries and links permit, and what was used.

``rules``: sizes that a registry takes. ``machine``: windows and caps, as configured; ``limited`` is a registry that
keeps them, with ``buckets`` shared by all processes of a machine and ``quotas`` as the registry tells them.
``requests`` counts. The command line and the chain make the limits; everything else is handed a limited registry.
"""
