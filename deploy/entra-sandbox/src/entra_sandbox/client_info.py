"""`client_info`: which account signed in, for libraries such as MSAL that ask for it with `client_info=1`."""

import base64
import json

from entra_sandbox.model import Member


def client_info(member: Member) -> str:
    """The home account of a person, base64url without padding."""
    raw = json.dumps({"uid": member.user.object_id, "utid": member.user.tenant_id}, separators=(",", ":"))
    return base64.urlsafe_b64encode(raw.encode()).rstrip(b"=").decode()
