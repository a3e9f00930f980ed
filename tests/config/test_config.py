from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.config import Config, Duration, EmbeddedRegistry, Policy, Secret, Size, load
from registry_pipelines.config.schema import schema
from registry_pipelines.config.times import Cron, TimeZone
from registry_pipelines.errors import ConfigInvalid
from registry_pipelines.evidence.predicates import ROLES
from registry_pipelines.promote.documents import DEFAULT_POLICY
from tests.config.files import SMALL, problems, written

ROOT = Path(__file__).parents[2]
FILES = [
    ROOT / "deploy" / name
    for name in ("example.yaml", "demo/registry-pipelines.yaml", "product/registry-pipelines.yaml")
]
EXAMPLE_ENVIRONMENT = {
    "ECR_TOKEN": "t0ken-one",
    "GAR_TOKEN": "t0ken-two",
    "SIGNING_PASSWORD": "pass-three",
    "PRIVATE_PASSWORD": "four",
}


def test_a_small_file_gives_typed_values_and_absolute_paths(tmp_path: Path) -> None:
    config = load(written(tmp_path, SMALL), {"TOKEN": "abc"})
    here = config.registries["here"]
    assert isinstance(here, EmbeddedRegistry)
    assert (here.name, here.address) == ("here", "127.0.0.1:5501")
    assert config.state == tmp_path / ".registry-pipelines"
    assert config.root(here) == config.state / "registries" / "here"
    assert config.repository_at(config.images["forecaster"], config.targets["eu"]) == "replica/ml/forecaster"
    assert config.policies["default"] == Policy(name="default")
    assert config.trusted_keys == (config.state / "keys" / "signing.pub",)


def test_a_role_has_its_own_key_or_that_of_all(tmp_path: Path) -> None:
    roles = """
signing:
  password: ${TOKEN}
  builder: {trusted: [ci.pub]}
  scanner: {key: scan.key}
  promoter: {key: ship.key, password: "${SHIP}", trusted: [ship.pub, old.pub]}
"""
    config = load(written(tmp_path, SMALL + roles), {"TOKEN": "abc", "SHIP": "def"})
    own = {"builder": None, "scanner": tmp_path / "scan.key", "promoter": tmp_path / "ship.key"}
    assert {role: config.signing_key_of(role) for role in ROLES} == own | {
        "indexer": config.signing_key,
        "person": config.signing_key,
    }
    passwords = {"indexer": "abc", "person": "abc", "promoter": "def"}
    assert {role: config.password_of(role) for role in ROLES} == {"builder": "", "scanner": ""} | passwords
    assert config.trusted_keys == (config.signing_key.with_suffix(".pub"),)
    assert config.trusted_by_role == {
        "builder": (tmp_path / "ci.pub",),
        "scanner": (tmp_path / "scan.pub",),
        "promoter": (tmp_path / "ship.pub", tmp_path / "old.pub"),
    }
    everyone = roles + "  person: {key: me.key}\n"
    config = load(written(tmp_path, SMALL + everyone), {"TOKEN": "abc", "SHIP": "def"})
    assert config.trusted_keys == ()
    # A file from before the indexer had a role: nobody signs or is believed as that, and everything else is as it was.
    assert (config.signing_key_of("indexer"), "indexer" in config.trusted_by_role) == (None, False)
    [found] = problems(tmp_path, SMALL + "signing:\n  person: {}\n")
    assert found.endswith(
        "signing.person: names neither `key` nor `trusted`, so nothing would be believed in this role"
    )


def test_a_policy_asks_for_no_statement_that_nobody_is_believed_for(tmp_path: Path) -> None:
    """Where each role has its own key, none is left for types that are no role's: releases would be denied for ever."""
    keys = "".join(f"\n  {role}: {{trusted: [{role}.pub]}}" for role in ROLES)
    asks = "policies: {default: {attestations: [urn:test-result, 'https://slsa.dev/provenance/v1']}}\n"
    [found] = problems(tmp_path, f"{SMALL}{asks}signing:{keys}\n")
    assert "policies.default.attestations: nobody is believed for urn:test-result, which is no role's" in found
    load(written(tmp_path, f"{SMALL}{asks}signing:{keys}\n  trusted: [tester.pub]\n"), {"TOKEN": "abc"})


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ("", "stream: is empty, as if it were not written; write `stream: {}` for the defaults"),
        ("true", "stream: expected a mapping, found true or false"),
        ("{format: soci}", "stream.format: write `soci-v1` (beside the image, whose digest stays) or `soci-v2`"),
        ("{span_size: 4}", "stream.span_size: expected a size like 4MiB, found a number"),
        ("{span_size: 4kB}", "stream.span_size: '4kB' is not a size; write a whole number and KiB, MiB, GiB"),
        ("{span_size: 1KiB}", "stream.span_size: 1KiB is not between 64KiB and 1GiB"),
        ("{format: estargz, min_layer_size: 1MiB}", "stream.min_layer_size: is about SOCI indexes"),
        ("{record: }", "stream.record: is empty, as if it were not written; write `record: {}` for the defaults"),
        (
            "{record: {until: ready}}",
            "stream.record.until: 'ready' is not the end of a start; write `exit`, `port 8000`",
        ),
        ("{record: {until: port 65536}}", "stream.record.until: 65536 is no port"),
        (
            "{record: {timeout: 30s}}",
            "stream.record.timeout: 30s are not longer than the 30 seconds that `until: quiet`",
        ),
        ("{record: {until: exit, timeout: 0s}}", "stream.record.timeout: is no time"),
        ("{record: {memory: 1MiB}}", "stream.record.memory: 1MiB are less than 16MiB"),
        ("{record: {processes: 0}}", "stream.record.processes: 0 is not between 1 and"),
    ],
)
def test_a_stream_section_that_would_do_something_else_is_told(tmp_path: Path, stream: str, expected: str) -> None:
    [found] = problems(tmp_path, SMALL.replace("[eu]\n", f"[eu]\n    stream: {stream}\n"))
    assert expected in found


def test_a_policy_that_wants_packs_of_an_image_that_nobody_records_is_noted(tmp_path: Path) -> None:
    asks = "policies: {default: {required: [hot-pack]}}\n"
    [note] = [each for each in load(written(tmp_path, SMALL + asks), {"TOKEN": "x"}).notes if "hot-pack" in each]
    assert "images.forecaster.policy: it requires `hot-pack`, and without `stream.record`" in note
    text = SMALL.replace("[eu]\n", "[eu]\n    stream: {record: {}}\n") + asks
    assert not any("hot-pack" in each for each in load(written(tmp_path, text), {"TOKEN": "x"}).notes)


def test_the_default_policy_is_the_shipped_one(tmp_path: Path) -> None:
    assert load(written(tmp_path, SMALL), {"TOKEN": "x"}).policies == {"default": DEFAULT_POLICY}


def test_every_problem_is_named_at_once_with_its_line(tmp_path: Path) -> None:
    text = """\
registries:
  here: {kind: embedded, port: 70000}
  there: {kind: distrbution, host: x}
  none: {port: 1}
images:
  forecaster:
    registry: heer
    repository: ml/Forecaster
    polcy: strict
    targets: [eu]
    build: {version: v1, requirements: numpy, platforms: [linux]}
  Upper: {registry: here}
policies:
  default:
    max_advisory_age: seven days
    limits: {critical: none, high: -1}
    exceptions:
      - {advisory: CVE-1, owner: me, reason: because, expires: 2026-13-01}
schedules: {mirror: "61 * * * *", retention: "* * * *"}
signing: {password: plain-text}
retention:
  - {registry: here, keep_newest: "10"}
"""
    found = problems(tmp_path, text)
    expected = [
        ":2: registries.here.port: 70000 is not between 1 and 65535",
        ":3: registries.there.kind: unknown kind `distrbution`; did you mean `distribution`?",
        ":4: registries.none: `kind` is missing; write one of embedded, distribution, ecr, ecr-public, gar, layout",
        ":7: images.forecaster.registry: unknown registry `heer`; did you mean `here`?",
        ":8: images.forecaster.repository: 'ml/Forecaster' is not a repository name",
        ":9: images.forecaster.polcy: unknown field `polcy`; did you mean `policy`?",
        ":10: images.forecaster.targets[0]: unknown target `eu`; there are none",
        ":11: images.forecaster.build.requirements: expected a list, found text",
        ":11: images.forecaster.build.platforms[0]: 'linux' is not a platform",
        ":12: images.Upper: 'Upper' is not a name",
        ":12: images.Upper: `repository` is missing",
        ":15: policies.default.max_advisory_age: 'seven days' is not a duration",
        ":16: policies.default.limits.critical: expected a whole number, found text",
        ":16: policies.default.limits.high: -1 is not between",
        ":18: policies.default.exceptions[0].expires: expected a date like 2027-01-31",
        ":19: schedules.mirror: '61' is not a minute (0-59)",
        ":19: schedules.retention: '* * * *' is not a cron expression: it has 4 fields instead of 5",
        ":20: signing.password: a secret is not written in the file",
        ":22: retention[0].keep_newest: expected a whole number, found text",
    ]
    assert len(found) == len(expected)
    for start in expected:
        assert any(problem.startswith(start) for problem in found), start


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ": is empty"),
        ("registries: [", ":1: is not valid YAML"),
        ("registries: {}\n\tx: 1\n", ":2: is not valid YAML"),
        ("a: &x {b: *x}\nregistries: {}\n", "unknown field `a`"),
        ("just text", ":1: expected a mapping, found text"),
        ("registries: {}\nregistries: {}\n", ":2: `registries` is written twice; first in line 1"),
        ("registries:\n  a: {kind: embedded, port: 1, port: 2}\n", ":2: registries.a: `port` is written twice"),
        ("registries: {? [1] : {}}\n", "a key must be plain text"),
        ("registries: {}\nstate: \x07\n", ":2: holds a character that YAML does not permit"),
        ("[" * 3000, "nested too deeply"),
        ("registries: !!python/object:os.system {}\n", ""),
        ("---\nregistries: {}\n---\nregistries: {}\n", "is not valid YAML: expected a single document"),
    ],
)
def test_what_is_no_configuration_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    if not said:
        load(written(tmp_path, text), {})  # a tag runs nothing: the mapping below it is read as a mapping
        return
    assert any(said in problem for problem in problems(tmp_path, text))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="No such file"):
        load(tmp_path / "none.yaml", {})
    with pytest.raises(ConfigInvalid, match="Is a directory"):
        load(tmp_path, {})
    assert problems(tmp_path, b"registries: {}\nx: \xff\xfe") == [":2: is not UTF-8 text"]
    assert "is larger than" in problems(tmp_path, b"#" * (1024 * 1024 + 1))[0]


def test_a_small_file_cannot_unfold_into_a_huge_one(tmp_path: Path) -> None:
    rows = "\n".join(f"    - &a{i} {{image: x/y, tags: [{', '.join(['v*'] * 500)}]}}" for i in range(1))
    ups = ", ".join(["*a0"] * 900)
    text = f"registries: {{r: {{kind: embedded, port: 1}}}}\nmirrors:\n  m:\n    to: r\n    upstreams:\n{rows}\n"
    text += "".join(f"  m{i}: {{to: r, upstreams: [{ups}]}}\n" for i in range(3))
    assert any("unfolds into more than" in problem for problem in problems(tmp_path, text))


def test_merge_keys_and_anchors_are_understood(tmp_path: Path) -> None:
    text = """\
registries:
  a: &base {kind: embedded, port: 5501}
  b: {<<: *base, port: 5502}
"""
    config = load(written(tmp_path, text), {})
    assert [each.port for each in config.registries.values() if isinstance(each, EmbeddedRegistry)] == [5501, 5502]


def test_variables_stand_in_values_only(tmp_path: Path) -> None:
    text = """\
registries:
  a: {kind: embedded, port: "${PORT}"}
  b:
    kind: embedded
    port: ${OTHER:-5502}
    ca_file: pre-$${x}-${NAME}
"""
    said = problems(tmp_path, text, PORT="many", NAME="")
    assert said == [
        ":2: registries.a.port: what ${PORT} holds is not permitted here; expected a number from 1 to 65535"
    ]
    config = load(written(tmp_path, text), {"PORT": "5501", "NAME": "ann"})
    a, b = config.registries["a"], config.registries["b"]
    assert isinstance(a, EmbeddedRegistry) and isinstance(b, EmbeddedRegistry)
    assert (a.port, b.port, b.ca_file) == (5501, 5502, tmp_path / "pre-${x}-ann")
    assert problems(tmp_path, SMALL.replace("TOKEN", "MISSING")) == [
        ":3: registries.there.password: the environment variable MISSING is not set"
    ]
    assert any(
        "'${TOKEN}' is not a name" in each for each in problems(tmp_path, SMALL.replace("here:", "'${TOKEN}':", 1))
    )


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    config = load(written(tmp_path, SMALL), {"TOKEN": "s3cret-value"})
    password = config.registries["there"].password  # type: ignore[union-attr]
    assert password.reveal() == "s3cret-value"
    assert "s3cret-value" not in repr(config) + str(password) + f"{password} {password!r} {password:>9}" + f"{password}"
    with pytest.raises(TypeError):
        pickle.dumps(password)
    wrong_place = SMALL.replace("port: 5501", "port: ${TOKEN}").replace(
        "repository: ml/forecaster", "repository: ${TOKEN}"
    )
    for problem in problems(tmp_path, wrong_place, TOKEN="S3CRET VALUE"):
        assert "S3CRET" not in problem


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("prefix: replica", "prefix: /x"), "is not a repository prefix"),
        (("registry: there", "registry: here"), ""),
        (("{registry: there, prefix: replica}", "{registry: here}"), "target `eu` is the place the image comes from"),
        (("images:", "  again: {kind: embedded, port: 5501}\nimages:"), "127.0.0.1:5501 is the address of `here`"),
        (("username: robot,", "username: robot, bandwidth: [fast],"), "'fast' is not a bandwidth cap"),
        (("username: robot,", "username: robot, redirects: {allow: [10.1.2.3/33]},"), "'10.1.2.3/33' is no place"),
        (("username: robot,", "username: robot, redirects: {allow: ['https://s3']},"), "'https://s3' is no place"),
        (("images:", "  x: {kind: embedded, port: 1, tls_cert: c.pem}\nimages:"), "`tls_cert` and `tls_key`"),
        (("    targets", "    build: {version: prod}\n    targets"), "a version tag never moves"),
        (
            ("    targets", "    build: {version: v1, wheels: ., wheels_from: 'here/w:v1'}\n    targets"),
            "a folder, or an",
        ),
        (
            ("targets:\n", "mirrors: {m: {to: here, via: here, images: [forecaster]}}\ntargets:\n"),
            "is the registry it leads to",
        ),
        (("    targets", "    channel: v1\n    targets"), "'v1' is a version tag"),
        (("targets:\n", "mirrors: {m: {to: here}}\ntargets:\n"), "mirrors nothing"),
        (
            ("images:", "  x: {kind: embedded, port: 1, root: .registry-pipelines/registries/here}\nimages:"),
            "belongs to `here`",
        ),
        (
            ("targets:\n", "  y: {registry: here, repository: ml/forecaster}\ntargets:\n"),
            "belongs to `forecaster` already",
        ),
        (("  eu:", "  us: {registry: there, prefix: replica}\n  eu:"), "is the same place as target `us`"),
        (
            ("targets:\n", "mirrors: {m: {to: here, upstreams: [{image: 'here/a:v1'}]}}\ntargets:\n"),
            'write it in `tags`: {image: here/a, tags: ["v1"]}',
        ),
        (
            (
                "targets:\n",
                f"mirrors: {{m: {{to: here, upstreams: [{{image: 'a/b@sha256:{'0' * 64}'}}]}}}}\ntargets:\n",
            ),
            "names a digest; name its tag in `tags`",
        ),
        (
            ("targets:\n", "mirrors: {m: {to: here, upstreams: [{image: 'docker://a.example/b'}]}}\ntargets:\n"),
            "has no docker://; Write a.example/b",
        ),
        (
            (
                "targets:\n",
                "policies: {p: {accept_unknowns: [{kind: advisories-age, until_age: 36h, reason: r}]}}\ntargets:\n",
            ),
            "`until_age` is not a whole number of days",
        ),
        (
            ("targets:\n", "mirrors: {m: {to: here, upstreams: [{image: 'a/b', semver: '>=x'}]}}\ntargets:\n"),
            "'>=x' is not a range of versions",
        ),
        (
            ("targets:\n", "mirrors: {m: {to: here, upstreams: [{image: 'docker.io/A'}]}}\ntargets:\n"),
            "mirrors.m.upstreams[0].image: 'library/A' is not a repository name",
        ),
        (("targets:\n", "policies: {p: {max_advisory_age: 30h}}\ntargets:\n"), "is not a whole number of days"),
        (
            ("targets:\n", "syncs: {s: {source: here, targets: [eu], selection: rewritten}}\ntargets:\n"),
            "syncs.s.selection: is about `platforms`, and there are none",
        ),
        (
            ("targets:\n", "mirrors: {m: {to: here, upstreams: [{image: a, selection: rewritten}]}}\ntargets:\n"),
            "mirrors.m.upstreams[0].selection: is about `platforms`",
        ),
        (
            (
                "targets:\n",
                "syncs: {s: {source: here, targets: [eu], platforms: [linux/arm64], selection: x}}\ntargets:\n",
            ),
            "selection: unknown value `x`",
        ),
        (
            ("targets:\n", "policies: {p: {accept_unknowns: [{kind: advisories-age, reason: r}]}}\ntargets:\n"),
            "`advisories-age` needs `until_age`",
        ),
        (
            ("targets:\n", "policies: {p: {accept_unknowns: [{kind: no-data, reason: r}]}}\ntargets:\n"),
            "accept_unknowns[0].kind: `no-data` is two kinds now: `uncovered`",
        ),
        (("targets:\n", "policies: {p: {undeclared: deny, limits: {unknowns: 3}}}\ntargets:\n"), ""),
        (("targets:\n", "policies: {p: {undeclared: refuse}}\ntargets:\n"), "unknown value `refuse`"),
        (("targets:\n", "node: {announce: {images: ['here/a:v1', 'h:5000/a/b@sha256:1']}}\ntargets:\n"), "images[1]"),
        (("targets:\n", "node: {announce: {again: 5s}}\ntargets:\n"), "asked every 10 seconds at most"),
        (("targets:\n", "node: {announce: {target: eu}}\ntargets:\n"), "is for `channels: true` alone"),
        (("targets:\n", "node: {announce: {channels: true, target: eu}}\ntargets:\n"), ""),
        (
            ("registries:\n", "registries:\n  empty: {kind: }\n"),
            "registries.empty.kind: expected one of embedded, distribution, ecr, ecr-public, gar, layout, store, found",
        ),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    text = SMALL.replace(*change, 1)
    assert text != SMALL
    if not said:
        load(written(tmp_path, text), {"TOKEN": "x"})
    else:
        assert said in problems(tmp_path, text)[0]


def test_a_file_of_another_version_is_refused_before_anything_else(tmp_path: Path) -> None:
    assert load(written(tmp_path, SMALL), {"TOKEN": "x"}).version == 1
    assert load(written(tmp_path, f"version: 1\n{SMALL}"), {"TOKEN": "x"}).version == 1
    [said] = problems(tmp_path, f"version: 2\nregistry_places: []\n{SMALL}")
    assert said.startswith(":1: version: the file is of version 2, and this build reads version 1; run the Registry")
    assert problems(tmp_path, f"version:\n{SMALL}") == [":1: version: expected one of 1, found empty"]
    assert problems(tmp_path, f"version: one\n{SMALL}") == [":1: version: unknown value `one`; there are: 1"]
    assert not jsonschema.Draft202012Validator(schema()).is_valid({"version": 2, "registries": {}})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_shipped_files_load_and_satisfy_the_schema(path: Path) -> None:
    config = load(path, EXAMPLE_ENVIRONMENT)
    whole = config.targets and config.mirrors and config.retention
    assert config.images and (whole or path.parent.name == "product")
    found = yaml.load(path.read_text(), Loader=_NoTimestamps)
    jsonschema.Draft202012Validator(schema()).validate(found)


def test_the_schema_is_valid_and_refuses_what_load_refuses(tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    validator = jsonschema.Draft202012Validator(schema())
    assert validator.is_valid(yaml.safe_load(SMALL))
    for old, new in [
        ("port: 5501", "port: 0"),
        ("port: 5501", "port: '5501'"),
        ("kind: embedded", "kind: other"),
        ("registry: here", "registri: here"),
        ("ml/forecaster", "ML"),
        ("[eu]", "eu"),
        ("${TOKEN}", "plain"),
        ("forecaster:\n", "Forecaster:\n"),
    ]:
        text = SMALL.replace(old, new, 1)
        assert not validator.is_valid(yaml.safe_load(text)), new
        assert problems(tmp_path, text), new


class _NoTimestamps(yaml.SafeLoader):
    """JSON and YAML 1.2 know no timestamps; the schema speaks of what they read."""


_NoTimestamps.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_mangled_file_is_a_configuration_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = bytearray(data.draw(st.sampled_from([path.read_bytes() for path in FILES] + [SMALL.encode()])))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(len(raw) - 1, 0)))
        how = data.draw(st.sampled_from(["cut", "flip", "insert", "double"]))
        if how == "cut":
            del raw[place : place + data.draw(st.integers(1, 40))]
        elif how == "flip" and raw:
            raw[place] = data.draw(st.integers(0, 255))
        elif how == "insert":
            raw[place:place] = data.draw(
                st.sampled_from([b"{", b"]", b": ", b"\n", b"- ", b"&a ", b"*a", b"${", b"<<: ", b"!!", b"\0"])
            )
        else:
            raw[place:place] = raw[place : place + 30]
    path = Path(tmp_path_factory.getbasetemp() / "mangled.yaml")
    path.write_bytes(bytes(raw))
    try:
        assert isinstance(load(path, EXAMPLE_ENVIRONMENT), Config)
    except ConfigInvalid as error:
        assert error.problems


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=20))
def test_values_are_read_or_refused_with_a_sentence(text: str) -> None:
    for kind in (Duration, Size, Cron, TimeZone):
        try:
            kind.parse(text)
        except ValueError as error:
            assert len(str(error)) > 20


def test_values() -> None:
    assert Duration.parse("7d") == timedelta(days=7)
    assert Duration.parse("90s").total_seconds() == 90
    assert [str(Duration.parse(text)) for text in ("7d", "1w", "90s", "250ms", "0s")] == [
        "1w",
        "1w",
        "90s",
        "250ms",
        "0ms",
    ]
    assert [str(Size.parse(text)) for text in ("64KiB", "4096KiB", "2048MiB")] == ["64KiB", "4MiB", "2GiB"]
    assert Cron.parse("*/5 1-3,7 * jan-mar MON") == "*/5 1-3,7 * jan-mar MON"
    assert Cron.parse(" @Daily ") == "0 0 * * *"
    assert Cron.parse("0 2 29 2 *").values()[2:4] == [{29}, {2}]
    assert Cron.parse("0 22-4 * * fri-sun").values()[1::3] == [{22, 23, 0, 1, 2, 3, 4}, {5, 6, 0}]
    for never in ("0 2 30 2 *", "0 2 31 4 *", "0 2 30,31 feb *", "0 2 31 4,6,9,11 *", "0 2 31 4 mon"):
        with pytest.raises(ValueError, match="never comes"):
            Cron.parse(never)
    for wrong in (
        "* * * * * *",
        "@reboot",
        "",
        "0 5-5 * * *",
        "0 23/5 * * *",
        "0 20-4/2 * * *",
        "0 2 0 * *",
        "0 2 * * 8",
        "0 2 L * *",
        "60 * * * *",
        "*/0 * * * *",
        "a * * * *",
        "1-2-3 * * * *",
        "-1 * * * *",
    ):
        with pytest.raises(ValueError, match="cron expression"):
            Cron.parse(wrong)
    assert Secret("") == "" and repr(Secret("")) == "Secret('')"


def test_the_readme_s_configuration_is_one(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    config = load(written(tmp_path, text), EXAMPLE_ENVIRONMENT)
    assert config.images["forecaster"].build is not None
    jsonschema.Draft202012Validator(schema()).validate(yaml.load(text, Loader=_NoTimestamps))


def test_the_journal_s_address_is_a_secret_and_is_looked_at(tmp_path: Path) -> None:
    text = SMALL + 'shared: {database: "${JOURNAL_URL}"}\n'
    good = "postgresql://rp:s3cret%40word@db.example:5432/journal?sslmode=require"
    config = load(written(tmp_path, text), {"TOKEN": "t", "JOURNAL_URL": good})
    assert config.shared.database.reveal() == good
    assert "s3cret" not in repr(config)
    validator = jsonschema.Draft202012Validator(schema())
    assert validator.is_valid(yaml.safe_load(text))
    assert not validator.is_valid(yaml.safe_load(SMALL + f"shared: {{database: '{good}'}}\n"))
    for wrong in ("", "s3cret", "mysql://rp:s3cret@db/x", "postgresql://rp:s3cret@word@db/x", good + " "):
        [found] = problems(tmp_path, text, JOURNAL_URL=wrong)
        assert (
            "shared.database: what ${JOURNAL_URL} holds is not permitted here; expected the address of a Postgres"
            in found
        )
        assert "s3cret" not in found


def test_a_webhook_is_a_secret_and_its_token_never_goes_without_tls(tmp_path: Path) -> None:
    text = SMALL + "notify: {webhook: '${HOOK}', token: '${HOOK_TOKEN}'}\n"
    for good in ("https://chat.example/services/s3cret?x=1", "http://127.0.0.1:8080/s3cret", "http://[::1]:1"):
        config = load(written(tmp_path, text), {"TOKEN": "t", "HOOK": good, "HOOK_TOKEN": "w0rd"})
        assert config.notify.webhook.reveal() == good
        assert "s3cret" not in repr(config) and "w0rd" not in repr(config)
    bad = ("", "s3cret", "ftp://x/s3cret", "https://me:s3cret@chat.example/", "https://x /s3cret", "https://[s3cret/")
    for wrong in (*bad, "https://chat.example/s3cret#x", "https://chat.ex\u00e4mple/s3cret"):
        [found] = problems(tmp_path, text, HOOK=wrong, HOOK_TOKEN="w0rd")
        assert "notify.webhook: what ${HOOK} holds is not permitted here" in found and "s3cret" not in found
    [found] = problems(tmp_path, text, HOOK="https://[::::]/s3cret", HOOK_TOKEN="w0rd")
    assert found == ":11: notify.webhook: the host of the address is no IPv6 address"
    [found] = problems(tmp_path, text, HOOK="http://chat.example/s3cret", HOOK_TOKEN="w0rd")
    assert found == ":11: notify.token: would be sent without TLS; the address of `webhook` begins with https:// then"
    [found] = problems(tmp_path, SMALL + "notify: {token: '${HOOK_TOKEN}', events: [refused]}\n", HOOK_TOKEN="w0rd")
    assert (
        "unknown value `refused`; there are: break-glass, denied, failed, held, revoked, run-failed, stale, vulnerable"
        in found
    )
    [found] = problems(tmp_path, SMALL + "notify: {token: '${HOOK_TOKEN}', command: ['']}\n", HOOK_TOKEN="w0rd")[1:]
    assert found == ":11: notify.token: is sent to `webhook`, and there is none"


def scheduled(mirror: str, retention: str, zone: str) -> str:
    return f"{SMALL}schedules: {{mirror: {mirror}, retention: {retention}, time_zone: {zone}}}\n"


def test_schedules_that_never_come_are_refused_with_their_line(tmp_path: Path) -> None:
    text = scheduled("'0 2 30 2 *'", "'0 0 31 4 *'", "Europe/Berln")
    assert problems(tmp_path, text) == [
        ":11: schedules.mirror: the day of the cron expression '0 2 30 2 *' never comes: no such month has it",
        ":11: schedules.retention: the day of the cron expression '0 0 31 4 *' never comes: no such month has it",
        ":11: schedules.time_zone: 'Europe/Berln' is not a time zone that this machine knows; "
        "did you mean Europe/Berlin?",
    ]
    for zone, hint in (("CEST", "write an IANA name"), ("new_york", "America/New_York"), ("Europe", "did you mean")):
        [found] = problems(tmp_path, scheduled("@daily", "@daily", zone).replace("@daily", "'@daily'"))
        assert f"{zone!r} is not a time zone" in found and hint in found
    for zone in ("../../etc/passwd", "/etc/localtime", "tzdata.zi", "zone.tab", "''", "[UTC]", "5"):
        assert len(problems(tmp_path, scheduled("'@daily'", "'@daily'", zone))) == 1
    assert "expected a cron expression" in problems(tmp_path, scheduled("['@daily']", "'@daily'", "UTC"))[0]


def test_a_service_goes_on_without_a_section_that_is_wrong(tmp_path: Path) -> None:
    path = written(tmp_path, scheduled("'0 2 30 2 *'", "'1 1 1 1 1'", "UTC"))
    config = load(path, {"TOKEN": "x"}, spare="schedules")
    assert "never comes" in config.spared[0] and len(config.spared) == 1
    assert config.images and config.schedules == Config(registries={}).schedules
    path.write_text(path.read_text().replace("targets: [eu]", "targets: [us]"))
    with pytest.raises(ConfigInvalid) as caught:
        load(path, {"TOKEN": "x"}, spare="schedules")
    assert len(caught.value.problems) == 2
    assert load(written(tmp_path, SMALL), {"TOKEN": "x"}, spare="schedules").spared == ()


def test_what_reads_otherwise_than_it_is_meant_is_noted(tmp_path: Path) -> None:
    config = load(written(tmp_path, scheduled("'*/90 * * * *'", "'*/45 */5 */2 * *'", "UTC")), {"TOKEN": "x"})
    assert [note.partition(":11: ")[2] for note in config.notes[:-1]] == [
        "schedules.mirror: '*/90' means minute 0 of each hour, not one in 90",
        "schedules.retention: '*/45' means minute 0, 45 of each hour, not one in 45",
        "schedules.retention: '*/5' means hour 0, 5, 10, 15, ... of each day, not one in 5",
    ]


def test_who_lets_releases_go_is_noted_once_where_images_do_not_say(tmp_path: Path) -> None:
    """After an upgrade they wait for a person; a merged key is written too."""
    told = SMALL.replace("targets: [eu]", "targets: [eu]\n    promote: manual")
    assert load(written(tmp_path, told), {"TOKEN": "x"}).notes == ()
    place = "registry: here, repository: ml"
    more = f"""\
  own: {{{place}/own, promote: auto}}
  base: &base {{{place}/base, promote: auto}}
  merged: {{<<: *base, repository: ml/merged}}
  listed: {{<<: [*base], repository: ml/listed}}
  quiet: &quiet {{{place}/quiet}}
  too: {{<<: [*quiet, {{policy: default}}], repository: ml/too}}
"""
    [note] = load(written(tmp_path, SMALL.replace("targets:\n", more + "targets:\n")), {"TOKEN": "x"}).notes
    assert ":5: images: without `promote` a person lets each release go (forecaster, quiet, too); write" in note
    many = "".join(f"  i{number}: {{{place}/{number}}}\n" for number in range(9))
    [note] = load(written(tmp_path, SMALL.replace("targets:\n", many + "targets:\n")), {"TOKEN": "x"}).notes
    assert "(forecaster, i0, i1, i2, i3 and 5 more)" in note


def test_a_machine_without_time_zones_takes_their_names_and_says_so(tmp_path: Path) -> None:
    text = scheduled("'@daily'", "'@daily'", "Europe/Berln")
    program = (
        "import sys, zoneinfo; zoneinfo.reset_tzpath([]); sys.modules['tzdata'] = None\n"
        "from pathlib import Path; from registry_pipelines.config import load\n"
        "print(*load(Path(sys.argv[1]), {'TOKEN': 'x'}).notes)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, written(tmp_path, text)], capture_output=True, text=True, check=False
    )
    assert "'Europe/Berln' is not checked: this machine has no time zones; install tzdata" in done.stdout, done.stderr


@pytest.mark.parametrize("section", ["registries", "targets", "mirrors", "syncs"])
def test_names_that_are_one_in_dagster_are_refused(tmp_path: Path, section: str) -> None:
    entry = {
        "registries": "{kind: embedded, port: 55%s}",
        "targets": "{registry: there, prefix: x%s}",
        "mirrors": "{to: here, images: [forecaster], prefix: x%s}",
        "syncs": "{source: here, targets: [eu], repositories: ['x%s/*']}",
    }[section]
    two = f"  a-b: {entry % 11}\n  a_b: {entry % 12}\n"
    text = (
        SMALL.replace(f"{section}:\n", f"{section}:\n{two}") if f"{section}:" in SMALL else f"{SMALL}{section}:\n{two}"
    )
    assert any(f"{section}.a_b: differs from `a-b` only by - and _" in each for each in problems(tmp_path, text))


@pytest.mark.parametrize(
    ("signing", "said"),
    [
        ("kms: 'awskms:alias/release'", "signing.kms: needs `public`"),
        ("kms: 'awskms:alias/release', public: a.pub, key: b.key", "signing.kms: is written beside `key`"),
        ("public: a.pub", "signing.public: is the public half of `kms`, and there is none"),
        ("kms: 'hv:a/1', public: a.pub, password: '${TOKEN}'", "signing.password: is the PIN of a hardware token"),
        ("kms: 'hv:a/1', public: a.pub, generate: true", "signing.generate: makes a key file"),
        ("kms: 'vault:a'", "signing.kms: 'vault:a' is not the address of a key in a key service"),
        ("scanner: {kms: 'hv:a/1'}", "signing.scanner.kms: needs `public`"),
        ("retired: [{key: a.pub}]", "signing.retired[0]"),
        ("keyless: [{issuer: 'https://a', identity: b}]", "signing.keyless: needs `signing.trust_root`"),
        ("trust_root: a.json", "signing.trust_root: says whose certificates are believed, and no `keyless` names"),
        ("trust_root: a.json, keyless: [{issuer: a, identity: b}]", "is not the address of an issuer of identities"),
        ("trust_root: a.json, keyless: [{issuer: 'https://a', identity: '*'}]", "is not an identity"),
    ],
)
def test_a_key_in_a_service_is_told_whole(tmp_path: Path, signing: str, said: str) -> None:
    found = problems(tmp_path, SMALL + f"signing: {{{signing}}}\n")
    assert any(said in each for each in found), found


def test_whose_keys_are_believed_when_they_change(tmp_path: Path) -> None:
    text = """\
signing:
  kms: "hsm:2?label=release"
  public: keys/new.pub
  password: "${TOKEN}"
  retired: [{key: keys/old.pub, until: 2027-03-31}, {key: keys/old.pub, until: 2027-02-28}]
  builder: {retired: [{key: keys/ci.pub, until: 2027-01-31}]}
  scanner: {kms: "hv:scanner/3", public: keys/scanner.pub, trusted: [keys/other.pub]}
"""
    config = load(written(tmp_path, SMALL + text), {"TOKEN": "123456"})
    keys = tmp_path / "keys"
    assert config.trusted_keys == (keys / "new.pub", keys / "old.pub", keys / "old.pub")
    assert config.trusted_by_role == {"builder": (keys / "ci.pub",), "scanner": (keys / "other.pub",)}
    assert config.retired_keys == {keys / "old.pub": date(2027, 2, 28), keys / "ci.pub": date(2027, 1, 31)}
    service = config.kms_of("person")
    assert service is not None and service.pin.reveal() == "123456" and "123456" not in repr(config)
    assert (config.kms_of("builder"), config.signing_key_of("person")) == (None, None)


def test_who_is_believed_beside_keys(tmp_path: Path) -> None:
    rule = "keyless: [{issuer: 'https://token.example', identity: ci@platform.example}]"
    alone = load(written(tmp_path, SMALL + f"signing: {{trust_root: root.json, {rule}}}\n"), {"TOKEN": "x"})
    assert (
        alone.trusted_keys == ()
        and alone.signing.keyless[0].name == "keyless:https://token.example ci@platform.example"
    )
    beside = f"signing: {{key: a.key, trust_root: root.json, builder: {{{rule}}}}}\n"
    config = load(written(tmp_path, SMALL + beside), {"TOKEN": "x"})
    assert config.trusted_keys == (tmp_path / "a.pub",) and config.trusted_by_role == {"builder": ()}
    assert set(config.identities_by_role) == {"builder"} and config.signing_key_of("builder") is None
    attestors = f"trust: {{attestors: {{ci: {{attests: [provenance], {rule}}}}}}}\n"
    told = load(written(tmp_path, SMALL + "signing: {trust_root: root.json}\n" + attestors), {"TOKEN": "x"})
    assert told.attestors["ci"].identities == alone.signing.keyless
    assert any(
        "trust.attestors.ci.keyless: needs `signing.trust_root`" in each
        for each in problems(tmp_path, SMALL + attestors)
    )
    nobody = "trust: {attestors: {ci: {attests: [provenance]}}}\n"
    assert any("so nobody would count as it" in each for each in problems(tmp_path, SMALL + nobody))


def test_an_exception_has_somebody_who_answers_for_it_and_a_reason(tmp_path: Path) -> None:
    excused = "{advisory: CVE-1, owner: %s, reason: %s, expires: 2027-01-31}"
    text = SMALL + f"policies:\n  default:\n    exceptions:\n      - {excused % ('me', 'because')}\n"
    load(written(tmp_path, text), {"TOKEN": "t"})
    assert problems(tmp_path, text.replace("owner: me, reason: because", 'owner: "", reason: " "')) == [
        ":14: policies.default.exceptions[0].owner: is empty: the verdict says it to its readers",
        ":14: policies.default.exceptions[0].reason: is empty: the verdict says it to its readers",
    ]


def test_what_was_excepted_and_is_no_more_is_noted(tmp_path: Path) -> None:
    """The file reads as if it counted."""
    text = (
        "policies:\n  default:\n"
        "    exceptions: [{advisory: CVE-1, owner: me, reason: x, expires: 2020-01-31}]\n"
        "    accept_unknowns:\n"
        "      - {kind: uncovered, subject: pkg:conda/*, reason: x, expires: 2020-01-31}\n"
        "      - {kind: uncovered, subject: pkg:npm/*, reason: x, expires: 2999-01-31}\n"
    )
    notes = load(written(tmp_path, SMALL + text), {"TOKEN": "t"}).notes
    assert [note.partition(": policies.default.")[2] for note in notes if "policies" in note] == [
        "exceptions[0]: the exception CVE-1 ended on 2020-01-31, and counts no more; take it out",
        "accept_unknowns[0]: uncovered:pkg:conda/* was accepted until 2020-01-31, and is no more",
    ]


def test_a_queue_has_one_reader(tmp_path: Path) -> None:
    text = """
    registries:
      one: {kind: ecr, account: "111122223333", region: eu-west-1, events: {sqs: "https://sqs.eu-west-1.amazonaws.com/111122223333/q"}}
      two: {kind: ecr, account: "111122223333", region: eu-west-2, events: {sqs: "https://sqs.eu-west-1.amazonaws.com/111122223333/q"}}
    """
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(text)
    with pytest.raises(ConfigInvalid, match="registry `one` reads this queue"):
        load(path)
