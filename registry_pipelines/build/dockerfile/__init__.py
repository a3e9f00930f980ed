"""Images from a Dockerfile, made by a container engine.

- ``model``: the section of the configuration, and what a build is asked
- ``parsing``: what the file says (``instructions`` its data, ``rules``, ``variables``, ``substitution``)
- ``context``: which files are sent, and where their bytes are; ``ignore_proposal``: what need not be sent
- ``choosing``: which engine; ``needs``: what it would not do
- ``engines``: who runs it
- ``builder`` puts it together: ``inputs`` (what was given, as one digest), ``logins`` (for the engine), ``image``
  (what it left behind), ``leaks`` (no secret goes out; ``secret_forms``: as what it is looked for), ``provenance``,
  ``work_folder`` (ends with the build)
"""
