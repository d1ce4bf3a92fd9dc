"""Asks the service of this container for one of its probes: ``probe.py /livez``; exit status 0 means 200.

The images carry no curl. Uses the standard library alone.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException


def main(path: str) -> int:
    """Ask once; says what was wrong in one line."""
    connection = HTTPConnection("127.0.0.1", int(os.environ.get("HTTP__PORT", "8080")), timeout=4)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(500).decode(errors="replace")
    except (OSError, HTTPException) as error:
        sys.stderr.write(f"{path}: {error}\n")
        return 1
    sys.stdout.write(f"{path}: {answer.status} {body}\n")
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
