#!/usr/bin/env bash
# Guess:   `tags: {torch: "{{ env.TORCH }}"}` in the YAML of a Dagster component is the text of the variable: an environment holds text, and
#          quotes say text in YAML.
# Happens: a template that comes to a literal of Python becomes that value. 2.10 is the tag 2.1, another version; the commit 7350e12 is
#          7350000000000000.0, the build 1_000 is 1000. Metadata and tags take it without a word; a field of type `str`, and
#          `code_version`, fail for such a commit ("is not a str"): of short ids of seven digits about one in twenty cannot be
#          loaded. `| string` changes nothing; with text around it (`v{{ env.TORCH }}`) it stays text, and two that are joined to
#          digits and a dot do not.
# Version: dagster 1.13.27 (PyPI). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'dagster==1.13.27'
TORCH=2.10 COMMIT=7350e12 OTHER=7350f12 BUILD=1_000 MAJOR=3 MINOR=20 venv/bin/python -W ignore - <<'PY'
import dagster as dg


class Images(dg.Component, dg.Model, dg.Resolvable):
    assets: list[dg.ResolvedAssetSpec]

    def build_defs(self, context):
        return dg.Definitions(self.assets)


def one(lines):
    text = "assets:\n  - key: app\n" + "".join(f"    {line}\n" for line in lines)
    try:
        return Images.resolve_from_yaml(text).assets[0]
    except Exception as error:
        return str(error).strip().splitlines()[-1]


print("dagster", dg.__version__)
tags = one(['tags: {torch: "{{ env.TORCH }}", told: "{{ env.TORCH | string }}", marked: "v{{ env.TORCH }}", python: "{{ env.MAJOR }}.{{ env.MINOR }}"}']).tags
print("tags:", tags)
assert tags == {"torch": "2.1", "told": "2.1", "marked": "v2.10", "python": "3.2"}, tags
metadata = one(['metadata: {commit: "{{ env.COMMIT }}", other: "{{ env.OTHER }}", build: "{{ env.BUILD }}"}']).metadata
print("metadata:", metadata)
assert metadata == {"commit": 7350e12, "other": "7350f12", "build": 1000}, metadata
good, bad = one(['code_version: "{{ env.OTHER }}"']), one(['code_version: "{{ env.COMMIT }}"'])
print("code_version of 7350f12:", good.code_version, "- of 7350e12:", bad)
assert good.code_version == "7350f12" and "is not a str" in bad
PY
