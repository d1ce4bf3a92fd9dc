"""A resolver that gives the answers of a test."""

import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

UNKNOWN = ""


class Names(AbstractResolver):
    """Each answer once, then the last one for ever: addresses with spaces between them, or ``UNKNOWN``."""

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)
        self.asked = 0

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer == UNKNOWN:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in answer.split()
        ]

    @override
    async def close(self) -> None:
        pass
