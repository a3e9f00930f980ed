"""Know a release: packages in its layers, SBOM, advisories, matching, and the report that a gate reads."""
