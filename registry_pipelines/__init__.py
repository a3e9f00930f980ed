"""The container-image supply chain for ML platform teams.

Each folder is a stage of the chain or something that the stages share, and its ``__init__`` says what is in it:

- shared, from below: ``oci`` (what an image is), ``registry`` (where images live), ``evidence`` (what is said about a
  digest, and who signed it), ``transfer`` (how images move), ``shared`` (what many workers have together)
- stages: ``build``, ``scan``, ``sign``, ``promote``, ``replicate``, ``mirror``, ``collect``
- ``config`` reads the one YAML file, ``chain`` has every stage over it, ``cli`` is the command line

Imports go down only (``.importlinter``; docs/architecture.md has the picture); nothing here imports Dagster. The
modules beside the folders serve all of them: ``errors`` (every error, and exit codes), ``release``, ``settings`` (what
a field of the configuration may look like), ``progress`` with ``tally`` and ``waits`` (how work tells where it stands),
``threads`` and ``interrupts`` (an end within two seconds), ``versions`` (of what is stored), ``dialing``, ``pem``,
``yaml_text``.
"""

__version__ = "0.1.0"
