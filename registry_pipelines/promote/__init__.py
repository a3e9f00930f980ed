"""Let a release ship: policy over evidence read from the registry, signed verdicts, channel tags moved by digest."""
