"""Survive: backups of whole registries, restores of a moment, and drills that prove them.

``model`` is what the configuration says of a backup; ``moment`` the signed document of one run, which says what every
tag named; ``restoring`` what comes back of it and where. The copies are ``transfer``'s. Imported by ``chain``.
"""
