#!/usr/bin/env bash
# dagster-k8s: `instance_config_map` of K8sRunLauncher is required, and said to be mounted into each run's pod at
# `dagster_home`. It is mounted nowhere: the pod has DAGSTER_HOME set and no dagster.yaml in it, so a run would write its
# events into a SQLite of its own. Whoever writes dagster.yaml by hand names the volume and its mount in `run_k8s_config`.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check 'dagster==1.13.27' 'dagster-k8s==0.29.27'
"$work/venv/bin/python" - <<'END'
from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job

asked = DagsterK8sJobConfig(job_image="image", dagster_home="/dagster", instance_config_map="settings")
pod = construct_dagster_k8s_job(asked, args=["dagster"], job_name="run").spec.template.spec
[container] = pod.containers
assert {each.name: each.value for each in container.env}["DAGSTER_HOME"] == "/dagster"
assert not pod.volumes and not container.volume_mounts, "it is mounted now"
print("instance_config_map: asked for; volumes:", pod.volumes, "mounts:", container.volume_mounts)
END
