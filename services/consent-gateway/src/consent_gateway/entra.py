"""Entra and Graph as the service reaches them: the adapters, and the connections that they share."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from consent_gateway.catalog import Catalog
from consent_gateway.credentials import CredentialError, Credentials
from consent_gateway.discovery import Discovery
from consent_gateway.entra_tokens import EntraTokens
from consent_gateway.graph import Graph
from consent_gateway.graph_settings import GraphSettings
from consent_gateway.probe import Probe
from consent_gateway.settings import EntraSettings


@dataclass(frozen=True, kw_only=True)
class Entra:
    """The adapters to Entra and Graph, and the connections they share."""

    tokens: EntraTokens
    probe: Probe
    settings: GraphSettings
    clients: tuple[httpx.AsyncClient, httpx.Client]

    @classmethod
    def of(cls, settings: EntraSettings, catalog: Catalog) -> "Entra":
        """The adapters; certificates and credentials are read here, so that a wrong one stops the start."""
        credentials = Credentials(settings)
        credentials.check(permission_set.client_id for permission_set in catalog.sets.values())
        # Nothing in the shell's environment decides whom we trust or which way we go.
        trusted = _trusted(settings.ca_bundle)
        limits = httpx.Limits(max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency)
        timeout = settings.timeout_seconds
        client = httpx.AsyncClient(verify=trusted, trust_env=False, timeout=timeout, limits=limits)
        blocking = httpx.Client(verify=trusted, trust_env=False, timeout=timeout, limits=limits)
        tokens = EntraTokens(
            Discovery(settings, client),
            blocking,
            credentials,
            login_url=settings.login_url,
            concurrency=settings.concurrency,
            timeout_seconds=timeout,
        )
        probe = Probe(tokens, Graph(settings.graph_url, client), home_tenant_id=settings.home_tenant_id)
        graph_settings = GraphSettings(settings.graph_url, client)
        return cls(tokens=tokens, probe=probe, settings=graph_settings, clients=(client, blocking))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Close everything on leaving."""
        try:
            yield
        finally:
            self.tokens.close()
            client, blocking = self.clients
            await client.aclose()
            blocking.close()


def _trusted(ca_bundle: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_bundle) if ca_bundle else None)
    except OSError as error:
        raise CredentialError(f"ENTRA__CA_BUNDLE: {ca_bundle}: {error.strerror or 'is not a PEM file'}") from None
