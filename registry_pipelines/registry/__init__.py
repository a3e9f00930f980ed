"""Where images live: one protocol (``interface``), a file per kind of place."""
