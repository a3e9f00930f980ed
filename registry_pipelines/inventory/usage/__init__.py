"""Who runs what: the images that clouds run now, by digest where they say it, with where and since when.

``model`` has the protocol ``UsageSource`` and what it gives, ``config.usage`` what the configuration says of one,
``sources`` opens it. ``ecs``, ``functions`` (Lambda), ``sagemaker``, ``inspector``, ``pulls`` are AWS's, ``cloud_run``
and ``vertex`` Google's, over REST (``google_rest``), for their clients are large.

A source that does not answer raises: who deletes then deletes nothing. ``chain.usage`` calls this.
"""
