"""Command line of the service."""

import argparse

from shared import logs, web
from shared.settings import load
from tenant_registry.app import create_app
from tenant_registry.settings import Settings


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM; a wrong setting ends the process with status 2 and one line that names it."""
    parser = argparse.ArgumentParser(
        prog="tenant-registry",
        description="Projects consent events into MongoDB, grouped by tenant, and serves the read API.",
        epilog="Settings come from the environment: docs/configuration.md lists them.",
    )
    parser.parse_args(arguments)
    settings = load(Settings)
    logs.configure(settings.log, service="tenant-registry")
    web.serve(create_app(settings), settings.http)


if __name__ == "__main__":
    main()
