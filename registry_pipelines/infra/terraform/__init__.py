"""Declared settings as Terraform's own files (``*.tf.json``), for those who apply settings with Terraform.

``writing`` is the door: :func:`~registry_pipelines.infra.terraform.writing.write` makes files of the same ``Setting``
values that planning compares. ``aws`` and ``google`` know which resource a kind of setting is, and what Terraform's
providers cannot say; ``blocks`` knows the syntax. What is left out is named in the files and told to the caller. The
way back: ``reading`` reads states and files, ``from_aws`` and ``from_google`` make settings of them, for an import.
Pure: nothing is asked, and no Terraform is needed.
"""
