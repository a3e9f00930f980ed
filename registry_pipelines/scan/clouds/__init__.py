"""Scanners of the clouds: ECR's basic scan, Amazon Inspector, Artifact Analysis, Google's On-Demand Scanning.

``ecr`` and ``google`` read what the services answer as an opinion about one image, ``states`` says what each end state
means, ``components`` which of our components a finding is about: pure. ``ecr_scan``, ``google_scan`` and ``on_demand``
ask: they start a scan, wait for it and fetch every page. ``chain.cloud_scanners`` chooses by the configuration.
"""
