"""Pipelines of CI systems, from the configuration: build, index, scan and sign, then the version tag hands over.

``settings`` is what the configuration says of them; ``job`` what one image's pipeline does, in no system's words;
``kept`` keeps what people wrote in a generated file; one module for each system: ``github``, ``gitlab``,
``cloud_build``, ``code_build``. Imported by ``config`` and ``chain``.
"""
