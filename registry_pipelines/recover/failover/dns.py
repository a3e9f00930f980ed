"""What a name server would be told, as text: nothing here asks or changes one.

Sources: Route 53's API (CreateHealthCheck, ChangeResourceRecordSets; developer guide, "How Amazon Route 53 determines
whether a health check is healthy" and "Configuring DNS failover"), Cloud DNS's API (ResourceRecordSet), RFC 1035
section 5 (zone files), and Terraform's providers ``aws`` (``aws_route53_health_check``, ``aws_route53_record``) and
``google`` (``google_dns_record_set``).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry_pipelines.recover.failover.model import Dns, Failover, Health

FAST_S, USUAL_S = 10, 30
"""The two intervals that Route 53 has for a health check."""

HTTPS_PORT = 443

CHECKS_FILE, BATCH_FILE, TERRAFORM_FILE = "route53-health-checks.json", "route53-change-batch.json", "failover.tf.json"
CLOUD_DNS_FILE, ZONE_FILE = "cloud-dns-record.json", "record.zone"
COMMENT = "Written by registry-pipelines recover failover; changes belong into its configuration."


@dataclass(frozen=True)
class Way:
    """Where the name leads for one registry. target: ``host`` or ``host:port``. plain_http: whether it speaks that.
    needs_login: whether its API takes an account. check: id of its health check at Route 53; empty for none."""

    name: str
    target: str
    plain_http: bool = False
    needs_login: bool = False
    check: str = ""

    @property
    def host(self) -> str:
        """Without the port, which no record has."""
        return self.target.rpartition(":")[0] if _has_port(self.target) else self.target

    @property
    def port(self) -> int:
        """Of its API."""
        return int(self.target.rpartition(":")[2]) if _has_port(self.target) else 80 if self.plain_http else HTTPS_PORT


@dataclass(frozen=True)
class Records:
    """Files by name, and what to do with them and to know of them, a sentence each."""

    files: Mapping[str, bytes]
    notes: Sequence[str]


def records(settings: Failover, dns: Dns, order: Sequence[Way]) -> Records:
    """The records of a fail-over in the form of its provider. order: all registries, the one that the name leads to now
    first. Where the provider itself looks at the registries, its first place is that of the configuration, whatever is
    down now: it goes back by itself, too."""
    match dns.provider:
        case "route53":
            return _route53(settings, dns, order)
        case "cloud-dns":
            return _cloud_dns(dns, order)
        case "text":
            return _zone(dns, order)


def _route53(settings: Failover, dns: Dns, order: Sequence[Way]) -> Records:
    told = sorted(order, key=lambda way: list(settings.stands).index(way.name))
    files = {
        CHECKS_FILE: _json([_check_request(settings, dns, way) for way in told]),
        BATCH_FILE: _json(_failover_batch(dns, told) if told[0].check else _plain_batch(dns, order[0])),
        TERRAFORM_FILE: _json(_terraform_aws(settings, dns, told)),
    }
    return Records(files, list(_route53_notes(settings, dns, told if told[0].check else order)))


def _route53_notes(settings: Failover, dns: Dns, order: Sequence[Way]) -> Iterator[str]:
    first, others = order[0], order[2:]
    change = f"aws route53 change-resource-record-sets --hosted-zone-id {dns.zone} --change-batch file://{BATCH_FILE}"
    yield f"Nothing was changed. To lead {dns.name} to {first.host}: {change}"
    if first.check:
        yield f"Route 53 itself leads the name to {order[1].host} while the health check of {first.name} fails"
    else:
        yield (
            f"Without `health_check` of {first.name} this is one record, which somebody changes. To have Route 53 do "
            f"it, make the checks of {CHECKS_FILE} (aws route53 create-health-check) and write their ids, or use "
            f"{TERRAFORM_FILE}"
        )
    if others:
        left = ", ".join(way.name for way in others)
        yield f"Such a record has a first and a second place: {left} is in none"
    for way in order:
        if way.needs_login and not dns.health_path:
            yield (
                f"{way.name} wants an account, and Route 53 has none: it is checked by TCP alone, which one that is "
                "frozen passes; name a path that answers without an account as `dns.health_path`"
            )
    yield from _ports(dns, order)
    interval_s = _interval_s(settings.health)
    takes_s = interval_s * settings.health.failures + int(dns.ttl.total_seconds())
    yield (
        f"Route 53 takes a registry for down after {settings.health.failures} failures {interval_s} s apart, then "
        f"resolvers keep the answer for {dns.ttl}: {takes_s} s in all, and more where a program keeps it longer. Its "
        "checkers come from the internet, and believe any certificate"
    )


def _ports(dns: Dns, order: Sequence[Way]) -> Iterator[str]:
    for way in order:
        if way.port != HTTPS_PORT:
            yield f"{way.name} answers at port {way.port}, and who follows {dns.name} asks port {HTTPS_PORT}"


def _plain_batch(dns: Dns, way: Way) -> dict[str, Any]:
    return {"Comment": COMMENT, "Changes": [{"Action": "UPSERT", "ResourceRecordSet": _record(dns, way)}]}


def _failover_batch(dns: Dns, order: Sequence[Way]) -> dict[str, Any]:
    changes = []
    for role, way in zip(("PRIMARY", "SECONDARY"), order, strict=False):
        record = {**_record(dns, way), "SetIdentifier": way.name, "Failover": role}
        if way.check:
            record["HealthCheckId"] = way.check
        changes.append({"Action": "UPSERT", "ResourceRecordSet": record})
    return {"Comment": COMMENT, "Changes": changes}


def _record(dns: Dns, way: Way) -> dict[str, Any]:
    return {
        "Name": f"{dns.name}.",
        "Type": "CNAME",
        "TTL": int(dns.ttl.total_seconds()),
        "ResourceRecords": [{"Value": f"{way.host}."}],
    }


def _check_request(settings: Failover, dns: Dns, way: Way) -> dict[str, Any]:
    """A request of CreateHealthCheck. The reference is made of what is asked, so that asking twice makes one."""
    kind = _check_type(dns, way)
    config: dict[str, Any] = {
        "Type": kind,
        "FullyQualifiedDomainName": way.host,
        "Port": way.port,
        "RequestInterval": _interval_s(settings.health),
        "FailureThreshold": settings.health.failures,
    }
    if kind != "TCP":
        config["ResourcePath"] = dns.health_path or "/v2/"
    if kind == "HTTPS":
        config["EnableSNI"] = True
    content = json.dumps(config, sort_keys=True).encode()
    reference = f"failover-{settings.name}-{way.name}"[:48] + f"-{hashlib.sha256(content).hexdigest()[:12]}"
    return {"CallerReference": reference, "HealthCheckConfig": config}


def _check_type(dns: Dns, way: Way) -> str:
    """At ``/v2/`` a registry that wants an account answers 401, which counts as a failure there."""
    if way.needs_login and not dns.health_path:
        return "TCP"
    return "HTTP" if way.plain_http else "HTTPS"


def _interval_s(health: Health) -> int:
    return FAST_S if health.pause.total_seconds() < USUAL_S else USUAL_S


def _terraform_aws(settings: Failover, dns: Dns, order: Sequence[Way]) -> dict[str, Any]:
    checks, found = {}, {}
    for way in order:
        config = _check_request(settings, dns, way)["HealthCheckConfig"]
        body = {
            "type": config["Type"],
            "fqdn": config["FullyQualifiedDomainName"],
            "port": config["Port"],
            "request_interval": config["RequestInterval"],
            "failure_threshold": config["FailureThreshold"],
        }
        if "ResourcePath" in config:
            body["resource_path"] = config["ResourcePath"]
        if "EnableSNI" in config:
            body["enable_sni"] = True
        checks[_label(way.name)] = body
    for role, way in zip(("PRIMARY", "SECONDARY"), order, strict=False):
        found[_label(way.name)] = {
            "zone_id": dns.zone,
            "name": dns.name,
            "type": "CNAME",
            "ttl": int(dns.ttl.total_seconds()),
            "records": [way.host],
            "set_identifier": way.name,
            "health_check_id": f"${{aws_route53_health_check.{_label(way.name)}.id}}",
            "failover_routing_policy": [{"type": role}],
        }
    return {
        "//": COMMENT,
        "terraform": {"required_providers": {"aws": {"source": "hashicorp/aws", "version": ">= 5.0"}}},
        "resource": {"aws_route53_health_check": checks, "aws_route53_record": found},
    }


def _cloud_dns(dns: Dns, order: Sequence[Way]) -> Records:
    first = order[0]
    ttl_s = int(dns.ttl.total_seconds())
    record = {"name": f"{dns.name}.", "type": "CNAME", "ttl": ttl_s, "rrdatas": [f"{first.host}."]}
    terraform = {
        "//": COMMENT,
        "terraform": {"required_providers": {"google": {"source": "hashicorp/google", "version": ">= 6.0"}}},
        "resource": {
            "google_dns_record_set": {
                _label(dns.name): {"managed_zone": dns.zone, "project": dns.project, **record},
            }
        },
    }
    command = (
        f"gcloud dns record-sets update {dns.name}. --type=CNAME --ttl={ttl_s} --rrdatas={first.host}. "
        f"--zone={dns.zone} --project={dns.project}"
    )
    notes = [
        f"Nothing was changed. To lead {dns.name} to {first.host}: {command}; {CLOUD_DNS_FILE} is the same for "
        "resourceRecordSets.patch, or .create the first time",
        "Cloud DNS fails over by itself between addresses of load balancers alone, and between no names: somebody, or "
        "what runs this, changes the record",
        f"Resolvers keep the old answer for {dns.ttl}, and programs that keep it longer for as long as they do",
    ]
    files = {CLOUD_DNS_FILE: _json(record), TERRAFORM_FILE: _json(terraform)}
    return Records(files, [*notes, *_ports(dns, order)])


def _zone(dns: Dns, order: Sequence[Way]) -> Records:
    first = order[0]
    line = f"{dns.name}. {int(dns.ttl.total_seconds())} IN CNAME {first.host}.\n"
    notes = [
        f"Nothing was changed. To lead {dns.name} to {first.host} put the line of {ZONE_FILE} into the zone {dns.zone} "
        "in place of the one for that name, and raise the zone's serial",
        f"Resolvers keep the old answer for {dns.ttl}, and programs that keep it longer for as long as they do",
    ]
    return Records({ZONE_FILE: line.encode()}, [*notes, *_ports(dns, order)])


def _label(text: str) -> str:
    """A name as Terraform takes it for a block."""
    clean = re.sub(r"[^a-z0-9_-]", "-", text)
    return clean if clean[0].isalpha() else f"r-{clean}"


def _has_port(target: str) -> bool:
    return target.rpartition(":")[2].isdecimal() and ":" in target and not target.endswith("]")


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=2).encode() + b"\n"
