"""Entra and Graph as the service reaches them: the adapters, and the connections that they share."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from consent_gateway.catalog.model import Catalog
from consent_gateway.checks.probe import Probe
from consent_gateway.entra.app_tokens import AppTokens
from consent_gateway.entra.connections import Connections
from consent_gateway.entra.credentials import CredentialError, Credentials
from consent_gateway.entra.discovery import Discovery
from consent_gateway.entra.graph import Graph
from consent_gateway.entra.graph_reads import GraphReads
from consent_gateway.entra.graph_registrations import GraphRegistrations
from consent_gateway.entra.graph_settings import GraphSettings
from consent_gateway.entra.sign_in import EntraTokens
from consent_gateway.settings import EntraSettings


@dataclass(frozen=True, kw_only=True)
class Entra:
    """The adapters to Entra and Graph, and the connections they share."""

    tokens: EntraTokens
    app_tokens: AppTokens
    probe: Probe
    settings: GraphSettings
    registrations: GraphRegistrations
    credentials: Credentials
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient, httpx.Client]

    @classmethod
    def of(cls, settings: EntraSettings, catalog: Catalog) -> "Entra":
        """The adapters; certificates and credentials are read here, so that a wrong one stops the start."""
        credentials = Credentials(settings)
        credentials.check(permission_set.client_id for permission_set in catalog.sets.values())
        # Nothing in the shell's environment decides whom we trust or which way we go.
        authorities = trusted(settings.ca_bundle)
        limits = httpx.Limits(max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency)
        timeout = settings.timeout_seconds
        # Checks in the background never take a connection that a person waits for.
        people = httpx.AsyncClient(verify=authorities, trust_env=False, timeout=timeout)
        checks = httpx.AsyncClient(
            transport=Connections(authorities, most=settings.concurrency), trust_env=False, timeout=timeout
        )
        blocking = httpx.Client(verify=authorities, trust_env=False, timeout=timeout, limits=limits)
        discovery = Discovery(settings, people)
        tokens = EntraTokens(
            discovery,
            blocking,
            credentials,
            login_url=settings.login_url,
            concurrency=settings.concurrency,
            timeout_seconds=timeout,
        )
        app_tokens = AppTokens(discovery, checks, credentials, deadline_seconds=timeout)
        reads = GraphReads(settings.graph_url, checks, deadline_seconds=timeout)
        return cls(
            tokens=tokens,
            app_tokens=app_tokens,
            probe=Probe(app_tokens, Graph(reads), home_tenant_id=settings.home_tenant_id),
            settings=GraphSettings(reads),
            registrations=GraphRegistrations(reads),
            credentials=credentials,
            clients=(people, checks, blocking),
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Close everything on leaving."""
        try:
            yield
        finally:
            self.tokens.close()
            people, checks, blocking = self.clients
            await people.aclose()
            await checks.aclose()
            blocking.close()


def trusted(ca_bundle: Path | None) -> ssl.SSLContext:
    """The CAs that are trusted for Entra and Graph: those of the file, or the system's.

    Raises:
        CredentialError: the file can't be used.
    """
    try:
        return ssl.create_default_context(cafile=str(ca_bundle) if ca_bundle else None)
    except OSError as error:
        raise CredentialError(f"ENTRA__CA_BUNDLE: {ca_bundle}: {error.strerror or 'is not a PEM file'}") from None
