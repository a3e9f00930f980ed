"""What an image is: references, digests, manifests, indexes, configs, platforms, layers and layout folders."""
