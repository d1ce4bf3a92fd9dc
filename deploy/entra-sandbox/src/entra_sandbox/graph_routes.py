"""Microsoft Graph v1.0, as far as a consent platform reads it, with the permissions that each call needs."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import jwt
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from entra_sandbox import graph_applications, graph_objects, odata
from entra_sandbox.graph_errors import GraphError, request_ids
from entra_sandbox.model import GRAPH_APP_ID, Registration, ServicePrincipal, Tenant
from entra_sandbox.roles import TEMPLATE_IDS
from entra_sandbox.sandbox import Sandbox
from entra_sandbox.tokens import Bearer
from entra_sandbox.trouble import note, trip

_READ_DIRECTORY = frozenset({"Directory.Read.All", "Directory.ReadWrite.All"})
_READ_APPLICATIONS = _READ_DIRECTORY | {"Application.Read.All", "Application.ReadWrite.All"}
_READ_ORGANIZATION = _READ_DIRECTORY | {"Organization.Read.All", "Organization.ReadWrite.All"}
_READ_GRANTS = _READ_DIRECTORY | {"DelegatedPermissionGrant.Read.All", "DelegatedPermissionGrant.ReadWrite.All"}
_READ_LICENCES = _READ_ORGANIZATION | {"LicenseAssignment.Read.All"}
# Directory roles that let a service principal read the directory without any Graph permission.
_READING_ROLES = frozenset(
    TEMPLATE_IDS[name] for name in ("Global Administrator", "Global Reader", "Directory Readers")
)


def graph_routes(sandbox: Sandbox) -> APIRouter:
    """Routes of the https Graph listener."""
    routes = APIRouter(prefix="/v1.0")
    graph = Graph(sandbox)

    @routes.get("/organization")
    async def organization(request: Request) -> Response:
        caller = await graph.caller(request)
        caller.need(_READ_ORGANIZATION, scopes={"User.Read"})
        return graph.page(request, "organization", [graph_objects.organization(caller.tenant)])

    @routes.get("/subscribedSkus")
    async def subscribed_skus(request: Request) -> Response:
        caller = await graph.caller(request)
        caller.need(_READ_LICENCES)
        return graph.page(request, "subscribedSkus", graph_objects.skus(caller.tenant))

    @routes.get("/servicePrincipals")
    async def service_principals(request: Request) -> Response:
        caller = await graph.caller(request)
        caller.need(_READ_APPLICATIONS)
        return graph.page(
            request, "servicePrincipals", graph_objects.service_principals(sandbox.directory, caller.tenant)
        )

    @routes.get("/servicePrincipals(appId='{app_id}')")
    @routes.get("/servicePrincipals/{object_id}")
    async def service_principal(request: Request) -> Response:
        caller = await graph.caller(request)
        found = graph.service_principal(caller, request)
        if found["appId"] != caller.bearer.client_id:
            caller.need(_READ_APPLICATIONS)
        return graph.single(request, "servicePrincipals", found)

    @routes.get("/servicePrincipals(appId='{app_id}')/appRoleAssignments")
    @routes.get("/servicePrincipals/{object_id}/appRoleAssignments")
    async def app_role_assignments(request: Request) -> Response:
        caller = await graph.caller(request)
        caller.need(_READ_APPLICATIONS)
        principal = graph.client_principal(caller, request)
        entries = graph_objects.app_role_assignments(sandbox.directory, caller.tenant, principal) if principal else []
        return graph.page(request, "appRoleAssignments", entries)

    @routes.get("/servicePrincipals(appId='{app_id}')/oauth2PermissionGrants")
    @routes.get("/servicePrincipals/{object_id}/oauth2PermissionGrants")
    async def own_permission_grants(request: Request) -> Response:
        caller = await graph.caller(request)
        caller.need(_READ_GRANTS)
        principal = graph.client_principal(caller, request)
        entries = graph_objects.permission_grants(sandbox.directory, caller.tenant, principal) if principal else []
        return graph.page(request, "oauth2PermissionGrants", entries)

    @routes.get("/servicePrincipals(appId='{app_id}')/memberOf")
    @routes.get("/servicePrincipals/{object_id}/memberOf")
    @routes.get("/servicePrincipals(appId='{app_id}')/transitiveMemberOf")
    @routes.get("/servicePrincipals/{object_id}/transitiveMemberOf")
    async def member_of(request: Request) -> Response:
        caller = await graph.caller(request)
        caller.need(_READ_APPLICATIONS)
        principal = graph.client_principal(caller, request)
        entries = graph_objects.directory_roles(caller.tenant, principal) if principal else []
        return graph.page(request, "directoryObjects", entries)

    @routes.get("/oauth2PermissionGrants")
    async def permission_grants(request: Request) -> Response:
        caller = await graph.caller(request)
        caller.need(_READ_GRANTS)
        entries = [
            entry
            for principal in sandbox.directory.principals_of(caller.tenant.id)
            for entry in graph_objects.permission_grants(sandbox.directory, caller.tenant, principal)
        ]
        return graph.page(request, "oauth2PermissionGrants", entries)

    @routes.get("/applications(appId='{app_id}')")
    async def application(app_id: str, request: Request) -> Response:
        caller = await graph.caller(request)
        if app_id.lower() != caller.bearer.client_id:
            caller.need(_READ_APPLICATIONS)
        registration = sandbox.directory.registration(app_id)
        if registration is None or registration.home_tenant_id != caller.tenant.id:
            raise GraphError.not_found(app_id)
        uris = sandbox.directory.redirect_uris_of(registration)
        return graph.single(
            request, "applications", graph_applications.application(sandbox.directory, registration, uris)
        )

    @routes.get("/{segment:path}")
    async def unknown(segment: str, request: Request) -> Response:
        await graph.caller(request)
        raise GraphError(
            400, "BadRequest", f"Resource not found for the segment '{segment.split('/', maxsplit=1)[0]}'."
        )

    return routes


class Caller:
    """Who calls, in which tenant, with which permissions."""

    def __init__(self, bearer: Bearer, tenant: Tenant, registration: Registration | None) -> None:
        self.bearer, self.tenant, self.registration = bearer, tenant, registration

    def need(self, roles: Iterable[str], *, scopes: Iterable[str] = ()) -> None:
        """Refuses a caller that holds none of the permissions (403)."""
        allowed = self.bearer.roles & set(roles) or self.bearer.scopes & set(scopes)
        if not allowed and not self.bearer.directory_roles & _READING_ROLES:
            raise GraphError(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")


class Graph:
    """What all calls have in common: the bearer, the addressed service principal, the form of an answer."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def caller(self, request: Request) -> Caller:
        """Accepts the bearer token (401 otherwise) and makes the trouble that is armed for its tenant."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise GraphError(401, "InvalidAuthenticationToken", "Access token is empty.")
        graph = self._sandbox.directory.resources[GRAPH_APP_ID]
        try:
            bearer = self._sandbox.tokens.read(token, audiences=graph.identifiers)
        except jwt.ExpiredSignatureError as error:
            message = "Lifetime validation failed, the token is expired."
            raise GraphError(401, "InvalidAuthenticationToken", message) from error
        except jwt.InvalidAudienceError as error:
            message = "Access token validation failure. Invalid audience."
            raise GraphError(401, "InvalidAuthenticationToken", message) from error
        except jwt.InvalidTokenError as error:
            message = "IDX14100: JWT is not well formed, or its signature is invalid."
            raise GraphError(401, "InvalidAuthenticationToken", message) from error
        note(request, tenant_id=bearer.tenant_id, client_id=bearer.client_id)
        tenant = self._sandbox.directory.tenants.get(bearer.tenant_id)
        if tenant is None:
            raise GraphError(401, "InvalidAuthenticationToken", "The tenant of the access token does not exist.")
        await trip(self._sandbox, request, "graph", tenant_id=bearer.tenant_id, client_id=bearer.client_id)
        return Caller(bearer, tenant, self._sandbox.directory.registration(bearer.client_id))

    def service_principal(self, caller: Caller, request: Request) -> dict[str, Any]:
        """The addressed service principal, of an app or of a resource (404 otherwise)."""
        name = str(request.path_params.get("app_id") or request.path_params["object_id"]).lower()
        field = "appId" if "app_id" in request.path_params else "id"
        for entry in graph_objects.service_principals(self._sandbox.directory, caller.tenant):
            if entry[field] == name:
                return entry
        raise GraphError.not_found(name)

    def client_principal(self, caller: Caller, request: Request) -> ServicePrincipal | None:
        """The addressed service principal of an app; None for one of a resource, which holds nothing here."""
        found = self.service_principal(caller, request)
        return self._sandbox.directory.principal(caller.tenant.id, found["appId"])

    def single(self, request: Request, name: str, entry: dict[str, Any]) -> Response:
        """One object, narrowed by `$select`."""
        body = odata.select(request.query_params, entry)
        context = f"{self._sandbox.urls.graph}/v1.0/$metadata#{name}/$entity"
        return JSONResponse({"@odata.context": context, **body}, headers=request_ids(request))

    def page(self, request: Request, name: str, entries: list[dict[str, Any]]) -> Response:
        """A page of objects by `$filter`, `$select` and `$top`, with `@odata.nextLink` if there are more."""
        default = self._sandbox.directory.behaviour.graph_page_size
        found, following = odata.page(request.query_params, entries, default_size=default)
        body: dict[str, Any] = {"@odata.context": f"{self._sandbox.urls.graph}/v1.0/$metadata#{name}"}
        if following is not None:
            kept = [(key, value) for key, value in request.query_params.multi_items() if key != "$skiptoken"]
            query = "&".join(
                f"{quote(key, safe='$')}={quote(value)}" for key, value in [*kept, ("$skiptoken", following)]
            )
            body["@odata.nextLink"] = f"{self._sandbox.urls.graph}{request.url.path}?{query}"
        return JSONResponse({**body, "value": found}, headers=request_ids(request))
