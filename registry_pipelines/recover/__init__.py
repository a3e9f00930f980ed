"""Survive: backups of whole registries, restores of a moment, drills that prove them, and who stands in for a registry.

``model`` is what the configuration says of a backup; ``moment`` the signed document of one run, which says what every
tag named; ``restoring`` what comes back of it and where. The copies are ``transfer``'s. ``failover`` has a
room of its own. Imported by ``chain``.
"""
