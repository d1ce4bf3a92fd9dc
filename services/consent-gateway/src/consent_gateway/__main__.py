"""Run the gateway, or one of its commands: ``python -m consent_gateway --help``."""

import argparse
import asyncio
import sys
import warnings
from pathlib import Path

from pymongo.errors import PyMongoError

from consent_gateway import people_command
from consent_gateway.app import create_app
from consent_gateway.catalog import command as catalog_command
from consent_gateway.catalog.command import UNUSABLE
from consent_gateway.catalog.versions import bring
from consent_gateway.checks import breakers_command
from consent_gateway.core import NAME
from consent_gateway.entra import registrations_command
from consent_gateway.entra.credentials import CredentialError
from consent_gateway.errors import CatalogError
from consent_gateway.grants.republish import republish
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
    _add_catalog(commands)
    people = commands.add_parser("people", help="what only the gateway keeps of people").add_subparsers(
        dest="people_command", metavar="COMMAND", required=True
    )
    forgetting = people.add_parser("forget", help="erase a person's name, and where from they consented")
    forgetting.add_argument("id", metavar="ID", help="object id in Entra, or subject at the console's issuer")
    _add_registrations(commands)
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
        if arguments.command == "people":
            known = asyncio.run(people_command.forget(settings, arguments.id))
            sys.stdout.write("what was known is erased\n" if known else "nothing was known under this id\n")
            raise SystemExit(0 if known else 1)
        if arguments.command == "catalog":
            report = asyncio.run(catalog_command.check(settings, arguments.file))
            sys.stdout.write(catalog_command.shown(report, as_json=arguments.json))
            raise SystemExit(report.exit_code)
        if arguments.command == "registrations":
            raise SystemExit(_registrations(settings, arguments))
        app = create_app(settings)
        asyncio.run(bring(settings))
    except (CatalogError, CredentialError) as error:
        # A file that a setting names is missing or wrong: say which, and nothing else.
        sys.stderr.write(f"{error}\n")
        raise SystemExit(UNUSABLE) from None
    except PyMongoError as error:
        sys.stderr.write(f"MONGO__URL: the database does not answer: {type(error).__name__}\n")
        raise SystemExit(UNUSABLE) from None
    web.serve(app, settings.http)


def _add_catalog(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    catalog = commands.add_parser("catalog", help="what a new catalogue file would do").add_subparsers(
        dest="catalog_command", metavar="COMMAND", required=True
    )
    check = catalog.add_parser(
        "check",
        help="say what a file would do to which grants, before it is rolled out",
        description="Compares the file with the active catalogue and every grant. Nothing is written.",
        epilog="Exit code: 0 no grant changes, 1 grants change, 2 the file can't be rolled out.",
    )
    check.add_argument("file", type=Path, metavar="FILE", help="the new catalogue (YAML)")
    check.add_argument("--json", action="store_true", help="print the report as JSON")


def _add_registrations(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    registrations = commands.add_parser("registrations", help="whether our own client registrations are in order")
    subcommands = registrations.add_subparsers(dest="registrations_command", metavar="COMMAND", required=True)
    check = subcommands.add_parser(
        "check",
        help="say what is wrong with our client registrations, one line per fault",
        description="Asks the home tenant about redirect URIs, claims, permissions and credentials. Changes nothing.",
        epilog="Exit code: 0 in order, 1 something is wrong, 2 a setting or a file can't be used.",
    )
    check.add_argument("--json", action="store_true", help="print the lines as JSON")
    status = subcommands.add_parser(
        "status",
        help="say which client registrations' checks are stopped, and why",
        description="Reads the database. `failing`: our own tenant refuses the registration, and checks go on by "
        "themselves once it works. `held`: so many tenants seem gone at once that an operator must confirm it.",
        epilog="Exit code: 0 all of them are checked, 1 some are not, 2 a setting or the database can't be used.",
    )
    status.add_argument("--json", action="store_true", help="print the lines as JSON")
    resume = subcommands.add_parser(
        "resume",
        help="let the checks of a held registration go on",
        description="For a registration that `status` shows as held, once somebody has looked at some of the tenants. "
        "Without --believe the next wave of removals holds it again.",
        epilog="Exit code: 0 checks go on, 1 the registration is not held, 2 there is no such registration.",
    )
    resume.add_argument("registration", metavar="REGISTRATION", help="its name in the catalogue, or its client id")
    resume.add_argument(
        "--believe", type=_hours, default=0.0, metavar="HOURS", help="the customers really left: believe it so long"
    )


def _hours(text: str) -> float:
    hours = float(text)
    if not 0 <= hours <= 72:
        raise argparse.ArgumentTypeError("between 0 and 72 hours")
    return hours


def _registrations(settings: Settings, arguments: argparse.Namespace) -> int:
    """Run one of the commands about client registrations; its exit code."""
    if arguments.registrations_command == "resume":
        resumed = asyncio.run(
            breakers_command.resume(settings, arguments.registration, believe_hours=arguments.believe)
        )
        sys.stdout.write("checks go on within seconds\n" if resumed else "the registration is not held\n")
        return 0 if resumed else 1
    if arguments.registrations_command == "status":
        lines = asyncio.run(breakers_command.status(settings))
        sys.stdout.write(breakers_command.shown(lines, as_json=arguments.json))
        return breakers_command.exit_code(lines)
    found = asyncio.run(registrations_command.check(settings))
    sys.stdout.write(registrations_command.shown(found, as_json=arguments.json))
    return registrations_command.exit_code(found)


if __name__ == "__main__":
    main()
