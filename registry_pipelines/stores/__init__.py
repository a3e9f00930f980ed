"""Object stores: S3, Google Cloud Storage, Azure, and what speaks S3 (MinIO, Ceph); a folder, too.

``store`` is a store as everything here uses it, over the package ``obstore``; ``parts`` are uploads that outlive a
process, over boto3, ``blocks`` those of Azure; ``failures`` says what went wrong. Imported by ``registry`` (images in a
store); imports only ``oci`` and ``errors``.
"""
