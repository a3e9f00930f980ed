"""Where images live: one protocol (``protocol``), a file per kind of place."""
