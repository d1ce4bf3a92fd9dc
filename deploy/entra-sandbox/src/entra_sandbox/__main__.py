"""Starts the sandbox: ``python -m entra_sandbox`` or ``entra-sandbox``."""

import asyncio
import sys

from entra_sandbox import logs, settings
from entra_sandbox.server import CannotStart, run


def main() -> None:
    """Reads the settings and runs until it is told to stop."""
    loaded = settings.load(sys.argv[1:])
    logs.configure(loaded.log.level, loaded.log.format)
    try:
        asyncio.run(run(loaded))
    except CannotStart as error:
        sys.stderr.write(f"entra-sandbox: {error} (see docs/sandbox.md)\n")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
