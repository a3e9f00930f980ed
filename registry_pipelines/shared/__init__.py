"""What many workers have together: a Postgres database, and an object store, instead of one machine's folder.

``settings`` is the section of the configuration, ``state`` opens what it names (:func:`~registry_pipelines.shared.state
.open_shared`). ``database`` is the words for tables, on SQLite in a folder (``files``) or, in ``server``, on Postgres;
``membership`` who works on the state, and who may not; ``leases`` what one alone does at a time; ``gathered`` asks
for many threads together. ``documents`` is what
stages keep for the next run, in a folder or (``stored_documents``) in the database. ``caches`` is what
workers keep for each other to save time (``cache_rows`` in the database, ``cache_bytes`` as it is stored,
``cache_sweep`` what goes again), ``outages`` what can be done without for a while. Times are the database's. Without
the section none of this is loaded but ``database`` and ``documents``, for what a folder keeps.
"""
