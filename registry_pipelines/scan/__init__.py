"""Know a release: packages in its layers, SBOM, advisories, matching, and the report that the gate reads.

``sbom`` reads an image, ``publish`` attaches what was found, ``report`` is the document that others read:

- what is there: ``collect`` reads layers as streams; ``os_databases``, ``language_packages``, ``software_lists`` (SBOMs
  that wheels carry) and ``wheel_contents`` name ``components``; ``ownership`` and ``grouping`` join what is one thing
- how it is written: ``cyclonedx``, ``purls``, ``facts``
- which files are weights of models: ``weights_found``, in the same pass
- what is known against it: ``advisories`` (the store) reads ``osv`` records (``requirement_records``: RubySec's and
  RustSec's forms), ``match`` holds them against components (``judging``) by ``versions``, ``version_orders`` and
  ``version_texts``; ``rating``, ``cvss`` and ``cvss4`` say how bad it is; ``changes`` holds two images against each
  other
- where that comes from: ``advisory_sets`` (what is in place), ``updating`` (the next set, from the export that ``feed``
  reads, by its ``listings``), ``deriving`` (of Debian's changelogs, which ``deb_changelog`` reads), ``importing`` (the
  same from files), ``set_archives`` (a set in one file)
- ``predicates`` are the signed forms of a report; ``state`` keeps what was read of layers

It counts and lists; what may pass is decided in ``promote.gate``. ``chain`` imports it; ``promote``, ``sign`` and
``config`` its documents (``report``, ``predicates``, ``openvex``).
"""
