"""Run the gateway, or one of its commands: ``python -m consent_gateway --help``."""

import argparse
import asyncio
import sys
import warnings

from consent_gateway.app import create_app
from consent_gateway.core import NAME
from consent_gateway.credentials import CredentialError
from consent_gateway.errors import CatalogError
from consent_gateway.republish import republish
from consent_gateway.settings import Settings
from shared import logs, web
from shared.settings import load


def main() -> None:
    """The command line. Settings come from the environment (docs/configuration.md)."""
    parser = argparse.ArgumentParser(
        prog=NAME,
        description="Proves and records admin consent in Microsoft Entra ID; serves the console and the consent API.",
        epilog="Without a command it runs the service. Settings come from the environment: docs/configuration.md.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("run", help="run the service (the default)")
    commands.add_parser(
        "republish",
        help="send the current state of every tenant again, with cause snapshot: projected, never notified",
    )
    arguments = parser.parse_args()
    settings = load(Settings)
    logs.configure(settings.log, service=NAME)
    # A form post needs cookies that are SameSite=None; a code in a URL is good once, and by PKCE for us only.
    warnings.filterwarnings("ignore", message="response_mode='form_post' is recommended")
    try:
        if arguments.command == "republish":
            count = asyncio.run(republish(settings))
            sys.stdout.write(f"{count} tenants will be sent again by the running service's relay\n")
            return
        app = create_app(settings)
    except (CatalogError, CredentialError) as error:
        # A file that a setting names is missing or wrong: say which, and nothing else.
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
    web.serve(app, settings.http)


if __name__ == "__main__":
    main()
