"""Dashboards load, and rules hold: Grafana's own types, Google's schema, CloudWatch's grammar, promtool."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.measures import MEASURES, PREFIX, camel
from registry_pipelines.report.metrics import dashboards
from registry_pipelines.report.metrics.rules import Bounds, document, rules
from tests.doubles.google.described import _document, _wrong
from tests.needs import needed_module
from tests.patience import patient

ROOT = Path(__file__).parents[3]
CONFIG = """\
registries:
  ecr: {kind: ecr, account: "111122223333", region: eu-central-1}
  here: {kind: embedded, port: 5000}
images: {app: {registry: here, repository: app, targets: [eu]}}
targets: {eu: {registry: ecr, max_lag: 10m}}
backups: {nightly: {registries: [here], to: ecr, objectives: {rpo: 30h}}}
mirrors: {hub: {to: here, upstreams: [{image: "docker.io/library/alpine", tags: ["3.*"]}], max_age: 48h}}
report: {metrics: {alerts: {bytes: [10GB, 20GB, 30GB]}, cloudwatch: {registry: ecr, namespace: Ours}}}
"""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(CONFIG)
    folder = tmp_path / "made"
    ran = CliRunner().invoke(main, ["report", "metrics", "--dashboards", str(folder), "--config", str(path), "--json"])
    assert ran.exit_code == 0, ran.output
    return {Path(each).name: Path(each) for each in json.loads(ran.stdout)["result"]["files"]}


def test_every_panel_shows_a_measure_by_labels_that_it_has() -> None:
    for panel in dashboards.PANELS:
        assert set(panel.by) <= set(MEASURES[panel.measure].labels) and panel.how in ("max", "sum")
    shown = {panel.measure for panel in dashboards.PANELS}
    assert set(MEASURES) - shown == {
        "registry_repositories", "repository_images", "repository_untagged_images", "drill_failed",
        "collected_timestamp_seconds", "left_out_series",
    }  # fmt: skip


def test_the_dashboard_in_the_repository_is_the_generated_one() -> None:
    path = ROOT / "deploy" / "grafana" / "registry-pipelines.json"
    assert path.read_bytes() == dashboards.as_file(dashboards.grafana()), "report metrics --dashboards writes it"


def test_grafana_reads_its_dashboard_with_its_own_types(files: dict[str, Path]) -> None:
    types = needed_module("grafana_foundation_sdk.models.dashboard", "dev")
    made = json.loads(files["grafana.json"].read_text())
    read = types.Dashboard.from_json(made)
    assert len(read.panels) == len(dashboards.PANELS)
    assert {panel.type_val for panel in read.panels} == {"timeseries"}
    back = json.loads(json.dumps(read.to_json(), default=lambda each: each.to_json()))
    assert lost(made, back) == [], "whatever its types do not know is dropped when they read it"


def lost(made: Any, back: Any, where: str = "") -> list[str]:
    """What was written and is not there any more, or otherwise."""
    if isinstance(made, dict) and isinstance(back, dict):
        return [each for key, value in made.items() for each in lost(value, back.get(key), f"{where}.{key}")]
    if isinstance(made, list) and isinstance(back, list) and len(made) == len(back):
        return [each for at, value in enumerate(made) for each in lost(value, back[at], f"{where}[{at}]")]
    return [] if made == back else [f"{where}: {made!r} became {back!r}"]


def test_no_panel_lies_over_another(files: dict[str, Path]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(files["grafana.json"].read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24
        taken |= cells


def test_google_takes_its_dashboard_by_its_own_schema(files: dict[str, Path]) -> None:
    needed_module("googleapiclient", "google")
    described = _document("monitoring.v1")
    made = json.loads(files["monitoring.json"].read_text())
    assert list(_wrong(described, {"$ref": "Dashboard"}, made)) == []
    assert "custom_googleapis_com:registry_pipelines_registry_bytes" in files["monitoring.json"].read_text()
    assert list(_wrong(described, {"$ref": "Dashboard"}, {**made, "mosaic": {}}))


def test_cloudwatch_takes_its_body(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    boto3 = needed_module("boto3", "aws")
    from tests.doubles.aws.front import AwsDouble

    text = files["cloudwatch.json"].read_text()
    with AwsDouble() as aws:
        for name, value in aws.environment.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("cloudwatch", region_name="eu-central-1", endpoint_url=aws.url)
        client.put_dashboard(DashboardName="registries", DashboardBody=text)
        body = json.loads(client.get_dashboard(DashboardName="registries")["DashboardBody"])
    names = {camel(name) for name in MEASURES}
    for widget in body["widgets"]:
        properties = widget["properties"]
        assert properties["region"] == "eu-central-1" and widget["x"] + widget["width"] <= 24
        [[metric]] = properties["metrics"]
        search = re.search(
            r"SEARCH\('\{\"Ours\"([\w,]*)\} MetricName=\"(\w+)\"', 'Maximum', 3600\)", metric["expression"]
        )
        assert search and search[2] in names, metric


def test_rules_hold_the_bounds_of_the_configuration(files: dict[str, Path], peer: Callable[[str], str]) -> None:
    checked(peer, files["rules.yaml"])
    [group] = yaml.safe_load(files["rules.yaml"].read_text())["groups"]
    by_name: dict[str, list[dict[str, Any]]] = {}
    for rule in group["rules"]:
        by_name.setdefault(rule["alert"], []).append(rule)
    assert [(rule["expr"].rpartition(" ")[2], rule["labels"]["severity"]) for rule in by_name["RegistryBytes"]] == [
        ("10000000000", "warning"), ("20000000000", "warning"), ("30000000000", "critical"),
    ]  # fmt: skip
    assert by_name["BackupLate"][0]["expr"] == f'{PREFIX}_backup_age_seconds{{backup="nightly"}} > {30 * 3600}'
    assert by_name["MirrorLate"][0]["expr"].endswith(f'{{mirror="hub"}} > {48 * 3600}')
    assert by_name["ReplicationLate"][0]["expr"].endswith('{target="eu"} > 600')
    assert {"DrillOld", "DrillFailed", "AdvisoriesOld", "InventoryOld", "SourceFailed", "MetricsStopped"} <= set(
        by_name
    )


TEST = {
    "rule_files": ["rules.yaml"],
    "evaluation_interval": "1m",
    "tests": [
        {
            "interval": "1m",
            "input_series": [
                {"series": f'{PREFIX}_registry_bytes{{registry="here"}}', "values": "25e9x120"},
                {"series": f'{PREFIX}_backup_age_seconds{{backup="nightly"}}', "values": f"{29 * 3600}+120x120"},
                {"series": f"{PREFIX}_collected_timestamp_seconds", "values": "0+60x120"},
            ],
            "alert_rule_test": [
                {
                    "eval_time": "40m",
                    "alertname": "RegistryBytes",
                    "exp_alerts": [
                        {
                            "exp_labels": {"severity": "warning", "registry": "here"},
                            "exp_annotations": {"summary": f"here holds more than {size}GB"},
                        }
                        for size in (10, 20)
                    ],
                },
                {"eval_time": "29m", "alertname": "RegistryBytes", "exp_alerts": []},
                {"eval_time": "29m", "alertname": "BackupLate", "exp_alerts": []},
                {
                    "eval_time": "31m",
                    "alertname": "BackupLate",
                    "exp_alerts": [
                        {
                            "exp_labels": {"severity": "critical", "backup": "nightly"},
                            "exp_annotations": {"summary": "nightly is behind by 1d 6h 2m 0s"},
                        }
                    ],
                },
                {"eval_time": "60m", "alertname": "MetricsStopped", "exp_alerts": []},
            ],
        },
        {
            "interval": "1m",
            "input_series": [{"series": "up", "values": "1x60"}],
            "alert_rule_test": [
                {
                    "eval_time": "30m",
                    "alertname": "MetricsStopped",
                    "exp_alerts": [
                        {
                            "exp_labels": {"severity": "critical"},
                            "exp_annotations": {"summary": "nobody counts registries any more"},
                        }
                    ],
                }
            ],
        },
    ],
}


def test_prometheus_itself_fires_the_rules_when_it_is_time(files: dict[str, Path], peer: Callable[[str], str]) -> None:
    path = files["rules.yaml"].parent / "test.json"
    path.write_text(json.dumps(TEST))
    command = [peer("promtool"), "test", "rules", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patient(60))
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_reads_the_query_of_every_panel(tmp_path: Path, peer: Callable[[str], str]) -> None:
    written = [
        {"record": f"r:{number}", "expr": dashboards.promql(panel, name)}
        for number, panel in enumerate(dashboards.PANELS)
        for name in (f"{PREFIX}_{panel.measure}", dashboards.google_name(panel.measure))
    ]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": written}]}))
    checked(peer, tmp_path / "queries.yaml", "--lint=none")


def test_names_with_quotes_are_text_in_rules(tmp_path: Path, peer: Callable[[str], str]) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(yaml.safe_dump(document(rules(Bounds(backups={'a"} or vector(1) #\\': 1.5})))))
    checked(peer, path)


def checked(peer: Callable[[str], str], path: Path, *options: str) -> None:
    command = [peer("promtool"), "check", "rules", *options, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patient(60))
    assert done.returncode == 0, done.stdout + done.stderr
