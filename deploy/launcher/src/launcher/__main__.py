"""Command line: start the stack, or ask the issuer of the running one for a token."""

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from launcher.addresses import DEFAULT_PORTS, Addresses, read_ports
from launcher.demo import run
from launcher.errors import LauncherError
from launcher.folder import StackFolder

DEFAULT_FOLDER = Path(__file__).resolve().parents[4] / ".local"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 1 when it failed, 2 when it was asked in the wrong way."""
    options = _parser().parse_args(arguments)
    folder = StackFolder(options.data)
    try:
        if options.command == "token":
            return _print_token(folder, options)
        words = [*os.environ.get("DEMO_PORTS", "").split(), *options.port]
        asyncio.run(run(folder, Addresses(read_ports(words))))
    except LauncherError as error:
        print(f"{error}", file=sys.stderr)
        return 1
    return 0


def _print_token(folder: StackFolder, options: argparse.Namespace) -> int:
    """Print a token of the running stack's issuer, as the issuer's own command line does."""
    about = folder.running()
    if about is None:
        raise LauncherError(f"no stack runs on {folder.path}; start one with: make demo")
    asked = {"--role": options.role, "--account": options.account, "--app": options.app}
    words = [word for name, value in asked.items() if value for word in (name, value)]
    command = [sys.executable, "-m", "platform_idp", "token", *words]
    return subprocess.run(command, env={"ISSUER": about["issuer"]}, check=False).returncode  # noqa: S603 - our own


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="launcher", description="Runs the whole consent platform on this machine.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    up = commands.add_parser(
        "up",
        help="start everything, and stop it with Ctrl-C",
        description="Starts a real mongod, a real Kafka, the Entra sandbox, the issuer, the services and a sample app.",
        epilog="Ports: " + ", ".join(f"{name}={port}" for name, port in DEFAULT_PORTS.items()),
    )
    up.add_argument(
        "--port",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="another port for a part; may be repeated (DEMO_PORTS in the environment holds the same, with spaces)",
    )
    token = commands.add_parser("token", help="print a bearer token of the running stack's issuer")
    token.add_argument("--role", required=True, help="viewer, operator, admin, staff or app")
    token.add_argument("--account", help="the account; northwind for people if not given")
    token.add_argument("--app", metavar="APP_ID", help="the app, with --role app")
    for command in (up, token):
        command.add_argument(
            "--data", type=Path, default=DEFAULT_FOLDER, metavar="DIR", help="folder of data, logs and secrets [.local]"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
