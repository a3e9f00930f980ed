"""AWS's half: what is declared of an ECR registry, of its images' signing, keys and network, as settings.

``model`` is what is written, ``wanted`` makes settings of it, ``reading`` asks what is there, ``changing`` changes it,
``cloud`` is the three as a :class:`~registry_pipelines.infra.cloud.SettingsCloud`; ``importing`` writes what is there
as it would be declared.
"""
