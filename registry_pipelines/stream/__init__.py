"""Start fast: indexes and forms of layers from which a node starts a container before it has fetched them whole.

``model`` says what is wanted for an image (the configuration holds this class itself; a new field begins there).

- what a tar says: ``toc`` reads header blocks into the fields that indexes list
- SOCI: ``ztoc`` writes and reads the table of one layer, ``spans`` reads files of a layer through it, by ranges;
  ``flatbuffer`` is its form, ``mountable`` what a node makes of it; ``soci_index`` is the document of an image's
  tables, ``soci`` what makes all of it
- eStargz: ``estargz`` converts a layer; ``estargz_plan`` says what happens to entries whose name comes again,
  ``estargz_members`` compresses, ``estargz_headers`` are the tar's; ``estargz_toc`` reads footer and table,
  ``estargz_verify`` holds a blob against its table, ``estargz_files`` reads single files; ``estargz_stream`` inflates
- a release in its repository: ``source`` reads it; ``publish`` attaches a signed index to each platform's manifest,
  ``derive`` makes an image with a digest of its own (``forms``: the two forms of it; ``conversion`` and ``converted``:
  layers, and those of earlier runs; ``documents``: manifests, configs and indexes; ``pushing``: what goes up, and
  when; ``indexing``: the SOCI index of one image, for both); both return ``results``
- what is signed: ``signed_index`` (and what a node may use), ``derivation`` (what was made of what),
  ``rechunk_record`` (why an image with other layers has the same files), both by ``signed_records``
- what is said of a release: ``standing`` by its manifests alone; ``check`` asks for all, ``index_checks`` one image
  (``table_checks`` a layer's ztoc, ``toc_checks`` its eStargz table), ``check_kinds`` has each answer with its source,
  ``eligible`` what services that stream by themselves (GKE, Fargate) ask of an image
- ``lazy``: start an image on this machine before it is fetched
- ``pull``: fetch it whole, into a folder or a container runtime
- ``hot``: what a start reads, known before it starts

``chain`` calls this room; ``config`` holds ``model``; of the other stages ``promote`` reads what is signed, and
``collect`` what tags mean.
"""
