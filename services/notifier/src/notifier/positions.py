"""Where a stream is: the last offset of each partition, and when that was true. Pure.

As text it is an event's ``id``, which a client sends back as ``Last-Event-ID``; any replica can go on from it.
"""

import base64
import binascii
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

_VERSION = 1
_HEAD = struct.Struct(">BQ")
_ITEM = struct.Struct(">HQ")
MAX_PARTITIONS = 1000


class InvalidPosition(ValueError):
    """The text isn't a position."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """What has been seen: everything up to ``offsets`` (inclusive), of partitions not named nothing."""

    offsets: Mapping[int, int]
    at: datetime

    def encode(self) -> str:
        """The position as text that survives an HTTP header."""
        milliseconds = int(self.at.timestamp() * 1000)
        raw = [_HEAD.pack(_VERSION, milliseconds)]
        raw += [_ITEM.pack(partition, offset) for partition, offset in sorted(self.offsets.items()) if offset >= 0]
        return base64.urlsafe_b64encode(b"".join(raw)).decode().rstrip("=")


def decode_position(text: str) -> Position:
    """The position of a text.

    Raises:
        InvalidPosition: it isn't one of ours.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        version, milliseconds = _HEAD.unpack_from(raw)
        items = list(_ITEM.iter_unpack(raw[_HEAD.size :]))
        at = datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    except (binascii.Error, struct.error, ValueError, OverflowError, OSError):
        raise InvalidPosition("not a position") from None
    if version != _VERSION or len(items) > MAX_PARTITIONS or any(offset >= 1 << 63 for _, offset in items):
        raise InvalidPosition("not a position of this version")
    return Position(offsets=dict(items), at=at)
