"""Which packages of a distribution stand for a Python or npm package."""

from __future__ import annotations

import pytest

from registry_pipelines.scan.facts import OsPackage
from registry_pipelines.scan.ownership import agrees


# Packages and metadata as Debian 12, Ubuntu 24.04 and Alpine 3.20 ship them.
@pytest.mark.parametrize(
    ("manager", "package", "source", "packaged", "name", "version"),
    [
        ("deb", "python3-jinja2", "jinja2", "3.1.2-1", "Jinja2", "3.1.2"),
        ("deb", "python3-yaml", "pyyaml", "6.0-3+b2", "PyYAML", "6.0"),
        ("deb", "python3-pil", "pillow", "9.4.0-1.1+deb12u1", "Pillow", "9.4.0"),
        ("deb", "python3-dateutil", "python-dateutil", "2.8.2-2", "python-dateutil", "2.8.2"),
        ("deb", "python3-openssl", "pyopenssl", "23.0.0-1", "pyOpenSSL", "23.0.0"),
        ("deb", "python3-bs4", "beautifulsoup4", "4.11.2-2", "beautifulsoup4", "4.11.2"),
        ("deb", "python3-pkg-resources", "setuptools", "66.1.1-1+deb12u1", "setuptools", "66.1.1"),
        ("deb", "python3-pip", "python-pip", "23.0.1+dfsg-1", "pip", "23.0.1"),
        ("deb", "python3-six", "", "1.16.0-4", "six", "1.16.0"),
        ("deb", "python3-lazr.uri", "lazr.uri", "1.0.6-3", "lazr.uri", "1.0.6"),
        ("deb", "python3-numpy", "numpy", "1:1.24.2-1+deb12u1", "numpy", "1.24.2"),
        ("deb", "python3-sympy", "sympy", "1.12~rc1-1", "sympy", "1.12rc1"),
        ("deb", "python3-apt", "python-apt", "2.7.7ubuntu3", "python-apt", "2.7.7"),
        ("deb", "python3-xlib", "python-xlib", "0.33+really0.31-2", "python-xlib", "0.31"),
        ("deb", "python3-foo", "", "2.0-1", "foo", "2.0.0"),
        ("deb", "node-semver", "", "7.3.5+~7.3.9-2", "semver", "7.3.5"),
        ("deb", "node-babel-core", "", "7.0.0~beta.1-2", "@babel/core", "7.0.0-beta.1"),
        ("apk", "py3-yaml", "", "6.0.1-r3", "PyYAML", "6.0.1"),
        ("apk", "py3-setuptools", "", "70.3.0-r0", "setuptools", "70.3.0"),
        ("apk", "py3-sqlalchemy", "", "2.0.0_rc1-r0", "SQLAlchemy", "2.0.0rc1"),
    ],
)
def test_the_package_stands_for_it(
    manager: str, package: str, source: str, packaged: str, name: str, version: str
) -> None:
    owner = OsPackage(name=package, version=packaged, source=source)
    assert agrees([owner], manager, name, version)
    assert agrees([OsPackage(name="other", version="1"), owner], manager, name, version)
    assert not agrees([owner], manager, name, "99.1")
    assert not agrees([owner], manager, "another", version)
    assert not agrees([], manager, name, version)


def test_what_a_package_bundles_is_not_the_package() -> None:
    npm = OsPackage(name="npm", version="10.8.0-r0")
    assert agrees([npm], "apk", "npm", "10.8.0")
    assert not agrees([npm], "apk", "tar", "6.1.0"), "nobody backports fixes into bundled copies"


def test_the_version_of_the_source_counts_too() -> None:
    package = OsPackage(name="python3-x", version="1:9-1", source="x", source_version="1.2-1")
    assert agrees([package], "deb", "x", "1.2")
