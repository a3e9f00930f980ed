"""The door of ``sign`` for other stages: image signatures."""

from registry_pipelines.sign.cosign import ImageSignature, ImageVerification, verify_image

__all__ = ["ImageSignature", "ImageVerification", "verify_image"]
