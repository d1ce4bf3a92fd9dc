"""Makes a lone mongod the primary of a one-node replica set; finds an existing one as it is.

``replica_set.py HOST:PORT [NAME]`` waits up to two minutes for the server, initiates the set under the address that
the services use, and ends with status 0 once the member takes writes. Transactions and change streams need a set.
"""

import sys
import time
from collections.abc import Callable

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

WAIT_SECONDS = 120.0
POLL_SECONDS = 0.5
NOT_YET_INITIALIZED = 94
ALREADY_INITIALIZED = 23


def main(address: str, name: str = "rs0") -> int:
    """Initiate the set where there is none, and wait for its primary."""
    deadline = time.monotonic() + WAIT_SECONDS
    with MongoClient[dict[str, object]](
        f"mongodb://{address}/?directConnection=true", serverSelectionTimeoutMS=2_000, connectTimeoutMS=2_000
    ) as client:

        def is_primary() -> bool:
            hello = client.admin.command("hello")
            if not hello.get("setName"):
                _initiate(client, address, name)
                return False
            return bool(hello["isWritablePrimary"])

        reason = _wait(is_primary, deadline)
    if reason is not None:
        sys.stderr.write(f"{address} is not the primary of {name} after {WAIT_SECONDS:.0f} s: {reason}\n")
        return 1
    sys.stdout.write(f"{address} is the primary of {name}\n")
    return 0


def _initiate(client: "MongoClient[dict[str, object]]", address: str, name: str) -> None:
    try:
        client.admin.command("replSetGetStatus")
    except OperationFailure as error:
        if error.code != NOT_YET_INITIALIZED:
            raise
    else:
        return  # a restarted member that is still recovering
    try:
        client.admin.command("replSetInitiate", {"_id": name, "members": [{"_id": 0, "host": address}]})
    except OperationFailure as error:
        if error.code != ALREADY_INITIALIZED:
            raise


def _wait(condition: Callable[[], bool], deadline: float) -> str | None:
    """None once the condition holds; after the deadline the reason why it does not."""
    reason = "it answers, but takes no writes"
    while time.monotonic() < deadline:
        try:
            if condition():
                return None
        except PyMongoError as error:
            reason = str(error)
        time.sleep(POLL_SECONDS)
    return reason


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
