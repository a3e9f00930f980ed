"""Records of a fail-over's name, taken by who reads them: botocore's model of Route 53 and moto's Route 53, the
schemas of Terraform's providers, and dnspython for zone files."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import boto3
import dns.resolver
import dns.zone
import pytest
from click.testing import CliRunner
from moto import mock_aws

from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid
from registry_pipelines.recover.failover.dns import Way, records
from registry_pipelines.recover.failover.model import Dns, Failover, Health, Stand
from tests.doubles.certificates import make_certificates
from tests.infra.provider_schemas import problems
from tests.recover.failover.pairs import CONFIG, Pair, pair, serving

__all__ = ["pair"]

NAME = "images.example.com"
SETTINGS = Failover(
    name="prod",
    registries=(Stand(registry="us"), Stand(registry="eu"), Stand(registry="ap-southeast")),
    health=Health(failures=2),
)
US = Way("us", "images-us.example.com", needs_login=True, check="1f9aa5a4-0000-4000-8000-000000000001")
EU = Way("eu", "images-eu.example.com:8443", needs_login=True)
AP = Way("ap-southeast", "harbor.example.net", needs_login=False)


def route53(**more: Any) -> Dns:
    return Dns(name=NAME, provider="route53", zone="Z0", **more)


def written(dns: Dns, *order: Way) -> tuple[dict[str, Any], list[str]]:
    made = records(SETTINGS, dns, order)
    return {name: json.loads(raw) for name, raw in made.files.items() if name.endswith(".json")}, list(made.notes)


def test_route_53_takes_the_health_checks_and_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore refuses what its model does not know, moto keeps the rest and is asked for it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    with mock_aws():
        client = boto3.Session(region_name="us-east-1").client("route53")
        zone = client.create_hosted_zone(Name="example.com", CallerReference="x")["HostedZone"]["Id"]
        dns = route53(health_path="/healthz")
        files, _ = written(dns, US, EU, AP)
        ids = [client.create_health_check(**each)["HealthCheck"]["Id"] for each in files["route53-health-checks.json"]]
        assert len(set(ids)) == 3
        kept = client.get_health_check(HealthCheckId=ids[1])["HealthCheck"]["HealthCheckConfig"]
        assert (kept["Type"], kept["Port"], kept["ResourcePath"]) == ("HTTPS", 8443, "/healthz")
        assert kept["RequestInterval"] == 10 and kept["FailureThreshold"] == 2 and kept["EnableSNI"]
        for order in ((US, EU, AP), (EU, AP, US)):  # Route 53 itself says which is down
            files, notes = (
                written(dns, replace_check(order, ids[0]), *order[1:]) if order[0] is US else written(dns, *order)
            )
            client.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=files["route53-change-batch.json"])
            found = client.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
            pairs = {each["Failover"]: each for each in found if each["Name"] == f"{NAME}." and "Failover" in each}
            assert pairs["PRIMARY"]["ResourceRecords"] == [{"Value": "images-us.example.com."}]
            assert pairs["SECONDARY"]["ResourceRecords"] == [{"Value": "images-eu.example.com."}]
            assert pairs["PRIMARY"]["HealthCheckId"] and "HealthCheckId" not in pairs["SECONDARY"]
            assert any("ap-southeast is in none" in note for note in notes)
            assert any("eu answers at port 8443" in note for note in notes)


def replace_check(order: tuple[Way, ...], check: str) -> Way:
    first = order[0]
    return Way(first.name, first.target, first.plain_http, first.needs_login, check)


def test_without_health_checks_one_record_leads_to_who_can_serve_now() -> None:
    plain = replace_check((US,), "")
    files, notes = written(route53(), EU, plain, AP)
    [change] = files["route53-change-batch.json"]["Changes"]
    assert change["ResourceRecordSet"]["ResourceRecords"] == [{"Value": "images-eu.example.com."}]
    assert "Failover" not in change["ResourceRecordSet"]
    # 401 is a failure to Route 53: who wants an account is checked by TCP, and it is said what that cannot see.
    kinds = {
        each["HealthCheckConfig"]["FullyQualifiedDomainName"]: each["HealthCheckConfig"]["Type"]
        for each in files["route53-health-checks.json"]
    }
    assert kinds == {"images-us.example.com": "TCP", "images-eu.example.com": "TCP", "harbor.example.net": "HTTPS"}
    assert sum("which one that is frozen passes" in note for note in notes) == 2
    again, _ = written(route53(), EU, plain, AP)
    assert again == files
    other, _ = written(route53(health_path="/healthz"), EU, plain, AP)
    references = [[each["CallerReference"] for each in made["route53-health-checks.json"]] for made in (files, other)]
    assert references[0][0] != references[1][0] and all(len(each) <= 64 for each in references[0])


def test_terraforms_providers_know_every_field() -> None:
    cloud = Dns(name=NAME, provider="cloud-dns", zone="images", project="acme-images")
    for each, providers in ((route53(), ("aws5", "aws6")), (cloud, ("google",))):
        files, _ = written(each, US, EU, AP)
        document = files["failover.tf.json"]
        for provider in providers:
            assert list(problems(document, provider)) == []
    files, notes = written(cloud, EU, US, AP)
    assert files["cloud-dns-record.json"] == {
        "name": f"{NAME}.", "type": "CNAME", "ttl": 60, "rrdatas": ["images-eu.example.com."],
    }  # fmt: skip
    assert any("gcloud dns record-sets update images.example.com. --type=CNAME" in note for note in notes)


def test_the_line_of_a_zone_file_is_read_as_one() -> None:
    made = records(SETTINGS, Dns(name=NAME, provider="text", zone="example.com"), [EU, US, AP])
    head = "$ORIGIN example.com.\n@ 300 IN SOA ns h 1 2 3 4 5\n@ 300 IN NS ns\nns 300 IN A 127.0.0.1\n"
    zone = dns.zone.from_text(head + made.files["record.zone"].decode(), origin="example.com.", relativize=False)
    found = zone.find_rdataset(f"{NAME}.", "CNAME")
    assert found.ttl == 60 and [each.target.to_text() for each in found] == ["images-eu.example.com."]


def test_a_name_that_the_certificate_does_not_have_is_told(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ECR and Artifact Registry would: their certificates are for their own names, whatever leads to them."""
    real = socket.getaddrinfo

    def answer(host: str, *arguments: Any, **more: Any) -> Any:
        return real("127.0.0.1" if host.endswith(".example.com") else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    for names, code in (((NAME,), 0), ((), 3)):
        made = make_certificates(tmp_path / f"tls{code}", "eu.example.com", *names)
        with serving(pair, made) as (host, trusted):
            port = host.rpartition(":")[2]
            front = f"leads_to: 'eu.example.com:{port}'"
            text = CONFIG.replace("{more}", trusted).replace("prefix: replica}}]", f"prefix: replica, {front}}}}}]")
            text = text.replace("registries: [us,", f"registries: [{{{{registry: us, {front}}}}},")
            text = text.replace('host: "{us}"', f'host: "{{us}}", plain_http: true, ca_file: "{made.ca}"')
            pair.configure(text + f"    dns: {{{{name: {NAME}, provider: text, zone: example.com}}}}\n", eu=host)
            told = pair.look(code=code)
            wrong = [each for each in told["reasons"] if "cannot lead to" in each]
            assert [each.partition(": ")[0] for each in wrong] == (
                [f"{NAME} cannot lead to us", f"{NAME} cannot lead to eu"] if code else []
            )
            assert all(f"not believed for {NAME}" in each and "Hostname mismatch" in each for each in wrong)
            [record] = told["tables"]["records"]
            assert record["file"] == "record.zone" and record["content"] == f"{NAME}. 60 IN CNAME eu.example.com.\n"
            shown = CliRunner().invoke(main, ["recover", "failover", "--dry-run", "--config", str(pair.path)]).output
            assert record["content"] in shown and not (tmp_path / "dns").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            "dns: {{name: example.com, provider: text, zone: example.com}}",
            "is the zone itself, which can have no CNAME",
        ),
        ("dns: {{name: a.example.org, provider: text, zone: example.com}}", "is not below the zone example.com"),
        ("dns: {{name: a.example.com, provider: cloud-dns, zone: z}}", "Cloud DNS wants the project"),
        ("dns: {{name: a.example.com, provider: route53, zone: Z1, ttl: 0s}}", "write whole seconds"),
        ("dns: {{name: a.example.com, provider: route53, zone: Z1}}", "127.0.0.1, which is no name"),
        ("dns: {{name: https://a, provider: route53, zone: Z1}}", "is not a name of the DNS"),
        ("images: [apq]", "did you mean `app`?"),
        ("mirrors: [far]", "brings its images to eu, and us is the first"),
        ("health: {{timeout: 2h}}", "from 100ms to 60s"),
        ("health: {{digest: 'app:v1'}}", "is not a repository with a digest"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_asked(pair: Pair, settings: str, told: str) -> None:
    text = CONFIG[: CONFIG.index("    health:")] + f"    {settings}\nmirrors: {{{{far: {{{{to: eu}}}}}}}}\n"
    pair.configure(text)
    with pytest.raises(ConfigInvalid) as refused:
        load(pair.path)
    assert told in str(refused.value)


def test_registries_that_cannot_stand_in_are_refused(pair: Pair) -> None:
    text = CONFIG.replace("[us, {{registry: eu, prefix: replica}}]", "[us, us]")
    pair.configure(text)
    with pytest.raises(ConfigInvalid, match="cannot stand in for itself"):
        load(pair.path)
    folder = "disk: {{kind: layout, root: disk}}\n  us:"
    pair.configure(CONFIG.replace("us:", folder, 1).replace("[us, {{", "[us, disk, {{"))
    with pytest.raises(ConfigInvalid, match="no node can pull from it"):
        load(pair.path)
    pair.configure(CONFIG.replace("[us, {{registry: eu, prefix: replica}}]", "[us]"))
    with pytest.raises(ConfigInvalid, match="at least 2"):
        load(pair.path)
