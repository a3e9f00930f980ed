"""One module for each stage of the chain, named as in the library (``registry_pipelines.chain``)."""
