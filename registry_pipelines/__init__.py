"""The container-image supply chain for ML platform teams.

Each folder is a stage of the chain or a thing the stages share: ``oci`` (what an image is), ``registry`` (where
images live), ``transfer`` (how they move), then ``build``, ``scan``, ``sign``, ``promote``, ``replicate``, ``mirror``
and ``collect``. ``chain`` wires them from one configuration file. Nothing here imports Dagster.
"""

__version__ = "0.1.0"
