"""BuildKit's own parser, from the package ``dockerfile``, in a process of its own: a Go library does not go on after a
fork. Reads one JSON string a line, writes instructions or an error."""

from __future__ import annotations

import json
import sys


def main() -> None:
    import dockerfile

    for line in sys.stdin:
        try:
            answer: object = [
                {
                    "keyword": (found.cmd or "").upper(),
                    "trigger": found.sub_cmd.upper() if found.sub_cmd else None,
                    "json": found.json,
                    "lines": [found.start_line, found.end_line],
                    "flags": list(found.flags),
                    "values": list(found.value),
                    "heredocs": [[each.name, each.content] for each in found.heredocs],
                }
                for found in dockerfile.parse_string(json.loads(line))
            ]
        except dockerfile.GoParseError as error:
            answer = str(error)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
