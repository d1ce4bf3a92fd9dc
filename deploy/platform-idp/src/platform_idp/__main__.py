"""Command line: serve, rotate the signing key, print a token."""

import argparse
import json
import sys
import urllib.error
import urllib.parse
import urllib.request

from platform_idp.people import ACCOUNTS, APP_ROLE, Role
from platform_idp.settings import Settings, WrongSetting, describe, load


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 2 for a wrong setting or argument, 1 for a failure."""
    options = _parser().parse_args(arguments)
    try:
        settings = load()
    except WrongSetting as error:
        return _fail(f"wrong setting: {error}", status=2)
    match options.command:
        case "rotate-keys":
            return _rotate_keys(settings)
        case "token":
            return _print_token(settings, options)
        case _:
            return _serve(settings)


def _serve(settings: Settings) -> int:
    import uvicorn  # noqa: PLC0415 (the other commands answer faster without it)

    from platform_idp import logs  # noqa: PLC0415 (the same)
    from platform_idp.app import create_app, key_ring  # noqa: PLC0415 (the same)

    try:
        key_ring(settings).ensure()
    except (OSError, ValueError) as error:
        return _fail(f"DATA_DIR: the signing keys in {settings.data_dir} cannot be used: {error}", status=2)
    logs.configure(settings.log)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings),
            host=settings.http.host,
            port=settings.http.port,
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=3,
        )
    )
    server.run()
    return 0 if server.started else 1


def _rotate_keys(settings: Settings) -> int:
    from platform_idp.app import key_ring  # noqa: PLC0415 (the other commands answer faster without it)

    keys = key_ring(settings)
    try:
        keys.ensure()
        new = keys.rotate()
    except (OSError, ValueError) as error:
        return _fail(f"the signing keys in {settings.data_dir} could not be rotated: {error}")
    print(f"New tokens are signed with {new.kid}; {len(keys.keys())} keys are published.")
    return 0


def _print_token(settings: Settings, options: argparse.Namespace) -> int:
    asked = {
        "role": options.role,
        "account_id": options.account,
        "app_id": options.app,
        "expires_in": options.expires_in,
    }
    form = urllib.parse.urlencode({name: value for name, value in asked.items() if value is not None}).encode()
    try:
        with urllib.request.urlopen(f"{settings.backchannel}/dev/token", form, timeout=10) as response:  # noqa: S310 (http or https by Settings)
            print(json.load(response)["access_token"])
    except urllib.error.HTTPError as error:
        return _fail(f"no token: {json.load(error)['error_description']}")
    except OSError as error:
        return _fail(f"no token: the issuer at {settings.backchannel} does not answer ({error}); is it running?")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="platform-idp",
        description="The suite's stand-in issuer: OpenID Connect for the console, client credentials for apps.",
        epilog="Settings, read from the environment:\n" + "\n".join(describe()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="listen and serve (the default)")
    commands.add_parser("rotate-keys", help="sign with a new key from now on; a running issuer notices by itself")
    token = commands.add_parser("token", help="print an access token of the issuer that runs at ISSUER")
    token.add_argument("--role", required=True, choices=[*Role, APP_ROLE])
    token.add_argument("--account", choices=list(ACCOUNTS), help="the account; northwind for people if not given")
    token.add_argument("--app", metavar="APP_ID", help="the app, with --role app")
    token.add_argument("--expires-in", metavar="SECONDS", help="life of the token")
    return parser


def _fail(message: str, *, status: int = 1) -> int:
    print(f"platform-idp: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
