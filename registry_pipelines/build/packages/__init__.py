"""Python packages from indexes that a configuration names: where each project comes from, and who vouches for it.

``pip`` resolves, and sees one index alone: a front on this machine that speaks for all of them. So credentials never
reach its command line, its environment or its log, and one place decides, fetches, checks and writes down.

- ``model``: the sections ``packages`` and ``python_packages``
- ``routing``: from which index a project comes; dependency confusion ends there
- ``markup``: HTML in bounded time
- ``pages``: what an index says of a project (PEP 503, 691, 700, 714, 740, 792), read as what strangers wrote
- ``logins``: what an index knows us by; ``web``: how it is asked; ``index``: one that answers, ``folders``: one that is
  a folder; ``opening`` makes them
- ``kept_pages``: the last answers, for days on which a public index is down
- ``sources``: all indexes of one build: the project's page, the file into the store, what is said of it
- ``front``: what pip sees; ``metadata``: what is looked at before pip reads it
- ``attestations``: who published a file (PEP 740), verified offline
- ``publishing``: wheels to an index; ``making``: a wheel of a source folder

``build.resolving`` uses ``sources`` and ``front``; ``chain`` opens indexes and publishes.
"""
