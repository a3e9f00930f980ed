"""Why an image is not pulled: from a message, from a pod, or by looking at the registry as a node does.

``clues`` reads what a message or a pod tells of image, place and identity; ``rules`` says which cause its words mean;
``causes`` has the answers; ``hosts`` what the name of a registry tells; ``pods`` and ``nodes`` read what kubectl
prints; ``contents`` holds an image against a node. Nothing here asks a registry: ``chain.doctor`` does.
"""
