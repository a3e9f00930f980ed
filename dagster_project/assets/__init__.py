"""One module per stage of the chain, named as in the library."""
