"""What registries hold, and who runs it: one columnar value, born here.

``schema`` has its columns and their meaning, ``value`` the value itself with its files (Parquet, CSV, JSON), ``rows``
what readers of registries fill it with. ``reader`` is what all of these do, ``from_ecr``, ``from_gar`` and
``from_survey`` are one each; ``survey`` reads a repository by what its tags lead to, for ``collect``, too; ``compare``
says what changed between two values. Whatever could not be read stands in the value, beside the images.

Importing this room loads no pandas; its modules do (see ``needed``). ``lifecycle`` evaluates the value, which ``chain``
makes.
"""
