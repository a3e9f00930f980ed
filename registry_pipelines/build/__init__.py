"""Make a release: images from Python wheels and a folder, without a container daemon, or from a Dockerfile.

``builder`` says what goes in and out, ``layers`` is the builder; its steps, in their order:

- what it stands on: ``bases`` (an image), ``interpreter`` with ``system_files`` and ``system_packages`` (this machine's
  Python); ``target`` says which Python and C library wheels are chosen for (``c_library``, ``elf``)
- which wheels: ``resolving`` asks pip (``pip_process``, ``pip_question``, ``requirement_lines``, ``find_links_page``);
  ``wheel_store`` keeps them; ``wheel_choice`` chooses for builds elsewhere, ``wheel_sets`` says what such a set is
- what is in them: ``wheel`` (``archive``, ``record``, ``entry_points``), ``install`` (where files go), ``conflicts``
- the application: ``application`` (``application_warnings``, ``ignorefile``, ``revision``); ``writable``: folders
- layers: ``planning``, ``buckets``, ``wheel_layer`` (``content``, ``entries``, ``compiling``), ``splice`` with
  ``inflate``: one wheel becomes one layer, made of the wheel's own deflate streams
- do its libraries find each other: ``links``
- at the registry: ``pushing`` (through ``transfer.uploads``), ``images``, ``provenance``, ``publishing``; ``cache``
  remembers layers
- ``dockerfile`` is the other builder: an engine runs a Dockerfile

``chain`` imports the builder, ``config`` and ``sign`` its documents; no other stage may look inside.
"""
