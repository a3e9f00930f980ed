#!/usr/bin/env bash
# Guess:   one schedule can start two nightly assets whose static partitions differ, by a job over both: each run names a
#          key, and the asset that has it runs; or the job is refused where it is written.
# Happens: writing the job is accepted, also by `dg.Definitions`. The definitions fail as a whole when they are loaded:
#          `dagster definitions validate` refuses the code location, whose other assets are not to be had then. Assets of
#          equal partitions, or one with and one without, are taken.
# Version: dagster (PyPI) 1.13.27. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'dagster==1.13.27'
cd "$folder"
venv/bin/python -W error - <<'PY'
import dagster as dg


def mirrored(name, keys):
    @dg.asset(name=name, partitions_def=dg.StaticPartitionsDefinition(keys) if keys else None)
    def copied():
        pass

    return copied


def said_of(*assets):
    """What writing the job and loading it say."""
    try:
        job = dg.define_asset_job("nightly", dg.AssetSelection.assets(*(each.key for each in assets)))
        definitions = dg.Definitions(assets=[*assets, mirrored("other", None)], jobs=[job])
    except Exception as error:
        return f"refused where it is written: {type(error).__name__}"
    try:
        definitions.get_repository_def().get_all_jobs()
    except Exception as error:
        return f"refused when it is loaded: {type(error).__name__}: {str(error).splitlines()[0][:160]}"
    return "taken"


print("dagster", dg.__version__)
two = said_of(mirrored("first", ["a", "b"]), mirrored("second", ["c"]))
equal = said_of(mirrored("first", ["a", "b"]), mirrored("second", ["a", "b"]))
mixed = said_of(mirrored("first", ["a", "b"]), mirrored("second", None))
print("different partitions   ", two)
print("equal partitions       ", equal)
print("with and without       ", mixed)
with open("location.py", "w") as file:
    file.write(
        "import dagster as dg\n"
        "@dg.asset(partitions_def=dg.StaticPartitionsDefinition(['a', 'b']))\ndef first(): ...\n"
        "@dg.asset(partitions_def=dg.StaticPartitionsDefinition(['c']))\ndef second(): ...\n"
        "@dg.asset\ndef other(): ...\n"
        "job = dg.define_asset_job('nightly', ['first', 'second'])\n"
        "defs = dg.Definitions(assets=[first, second, other], jobs=[job])\n"
    )
assert two.startswith("refused when it is loaded"), two
assert equal == mixed == "taken", (equal, mixed)
PY
if DAGSTER_HOME=$folder venv/bin/dagster definitions validate -f location.py >said 2>&1; then
  echo "the code location loads"; exit 1
fi
grep -o "Failed to resolve asset job nightly" said | head -1 | sed 's/^/the code location        /'
