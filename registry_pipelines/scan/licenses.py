"""What makers say of licences as SPDX expressions, where it can be said for certain.

Sources: SPDX 2.3 annex D (expressions); Debian's machine-readable copyright format 1.0 and Fedora's former short names
for what they call the same licences.
"""

from __future__ import annotations

import re
from functools import lru_cache

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

_GNU = re.compile(r"\b(A?GPL|LGPL|GFDL)[-v ]*(\d)(?:\.(\d))?(\+|(?=[\s()]|\Z))", re.IGNORECASE)
_SAME = {
    "expat": "MIT",
    "mit license": "MIT",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "",
    "asl 2.0": "Apache-2.0",
    "bsd-3-clause-like": "",
    "python software foundation license": "PSF-2.0",
    "isc license (iscl)": "ISC",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "mplv2.0": "MPL-2.0",
    "the unlicense (unlicense)": "Unlicense",
    "zlib": "Zlib",
}
"""Names of exactly one licence; an empty one is of several."""


@lru_cache(maxsize=10_000)
def spdx_expression(stated: str) -> str:
    """A canonical SPDX expression for what a package states; empty where it is none, or could mean another licence."""
    same = _SAME.get(stated.lower())
    if same is not None:
        return same
    text = _GNU.sub(_gnu, stated)
    try:
        return str(canonicalize_license_expression(text))
    except (InvalidLicenseExpression, ValueError, RecursionError):
        return ""


def _gnu(match: re.Match[str]) -> str:
    """``GPL-2+`` and ``GPLv2+`` are GPL-2.0-or-later."""
    minor = match[3] or ("1" if match[1].upper() == "LGPL" and match[2] == "2" and match[3] else "0")
    return f"{match[1].upper()}-{match[2]}.{minor}-{'or-later' if match[4] else 'only'}"
