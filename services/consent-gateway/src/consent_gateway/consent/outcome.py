"""How a run looks to the person or app that started it: what happened, and what to do next."""

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import urlencode, urlsplit, urlunsplit

from consent_gateway.catalog.model import MICROSOFT_GRAPH, Catalog
from consent_gateway.consent.attempts import Attempt, AttemptStatus, AttemptView, NextStep, SetResult
from consent_gateway.errors import Kind
from consent_gateway.grants.grants import Grant, Status

NEXT_STEPS: dict[Kind, NextStep] = {
    Kind.DECLINED: NextStep.TRY_AGAIN,
    Kind.WAITING_FOR_APPROVAL: NextStep.ASK_ADMINISTRATOR,
    Kind.NOT_ADMINISTRATOR: NextStep.USE_ADMINISTRATOR,
    Kind.ROLE_NOT_PROVEN: NextStep.CONTACT_SUPPORT,
    Kind.WRONG_ACCOUNT: NextStep.USE_ADMINISTRATOR,
    Kind.PERSONAL_ACCOUNT: NextStep.USE_WORK_ACCOUNT,
    Kind.OTHER_TENANT: NextStep.TRY_WITHOUT_TENANT,
    Kind.PROOF_FAILED: NextStep.TRY_AGAIN,
    Kind.SESSION_CHANGED: NextStep.TRY_AGAIN,
    Kind.TENANT_TAKEN: NextStep.CONTACT_SUPPORT,
    Kind.CONFLICT: NextStep.TRY_AGAIN,
    Kind.WITHDRAWN: NextStep.CONTACT_INVITER,
    Kind.TENANT_UNKNOWN: NextStep.TRY_WITHOUT_TENANT,
    Kind.WRONG_CLOUD: NextStep.CONTACT_SUPPORT,
    Kind.BLOCKED_BY_POLICY: NextStep.ASK_ADMINISTRATOR,
    Kind.SERVICE_MISSING: NextStep.ASK_ADMINISTRATOR,
    Kind.NOT_CONSENTED: NextStep.TRY_AGAIN,
    Kind.STILL_CHANGING: NextStep.TRY_AGAIN_LATER,
    Kind.MISCONFIGURED: NextStep.CONTACT_SUPPORT,
    Kind.ENTRA_UNAVAILABLE: NextStep.TRY_AGAIN_LATER,
    Kind.UNKNOWN_ANSWER: NextStep.TRY_AGAIN_LATER,
}


def view_of(
    attempt: Attempt,
    grants: Sequence[Grant],
    *,
    catalog: Catalog,
    label: tuple[str | None, str | None],
    now: datetime,
) -> AttemptView:
    """The run with its results; ``label`` is the tenant's name and domain."""
    by_set = {grant.permission_set_id: grant for grant in grants}
    status = attempt.status(now)
    results = tuple(_result(attempt, one, by_set.get(one), catalog, status) for one in attempt.permission_set_ids)
    return AttemptView(
        id=attempt.id,
        account_id=attempt.account_id,
        status=status,
        permission_set_ids=attempt.permission_set_ids,
        set_titles=tuple(result.title for result in results),
        results=results,
        tenant_id=attempt.tenant_id,
        tenant_name=label[0],
        primary_domain=label[1],
        failure=Kind.EXPIRED if status is AttemptStatus.EXPIRED else attempt.failure,
        error_code=attempt.error_code,
        next_step=_next_step(attempt, status, results),
        reference=reference_of(attempt),
        return_url=_with_id(attempt.return_url, attempt.id) if attempt.return_url else None,
        consent_url=None,
        created_at=attempt.created_at,
        expires_at=attempt.expires_at,
        remaining=attempt.remaining,
        others=_others(attempt, catalog),
        invited=attempt.invitation_id is not None,
        services=_services(attempt, catalog),
        resource_app_id=attempt.detail if attempt.failure is Kind.SERVICE_MISSING else None,
        started_from=attempt.started_from,
        last_from=attempt.last_from,
    )


def reference_of(attempt: Attempt) -> str:
    """What to quote to support about a run."""
    return attempt.id[:12]


def _services(attempt: Attempt, catalog: Catalog) -> tuple[str, ...]:
    """Names of the APIs that the tenant lacks, as far as Entra told; every tenant has Microsoft Graph."""
    if attempt.failure is not Kind.SERVICE_MISSING:
        return ()
    sets = [catalog.sets[one] for one in attempt.remaining if one in catalog.sets]
    needed = {resource.app_id: resource.name for one in sets for resource in one.resources}
    if attempt.detail in needed:
        return (needed[attempt.detail],)
    return tuple(name for app_id, name in needed.items() if app_id != MICROSOFT_GRAPH)


def _others(attempt: Attempt, catalog: Catalog) -> tuple[str, ...]:
    """What a decline was not about: the sets of other client registrations, which the person was not asked for yet."""
    known = [catalog.sets[one] for one in attempt.remaining if one in catalog.sets]
    if attempt.failure is not Kind.DECLINED or not known:
        return ()
    return tuple(one.id for one in known if one.registration != known[0].registration)


def _result(attempt: Attempt, set_id: str, grant: Grant | None, catalog: Catalog, status: AttemptStatus) -> SetResult:
    permission_set = catalog.sets.get(set_id)
    done = set_id in attempt.done
    return SetResult(
        permission_set_id=set_id,
        title=permission_set.title if permission_set is not None else set_id,
        outcome=AttemptStatus.SUCCEEDED if done else status,
        status=str(grant.status) if done and grant is not None else None,
        held_apps=grant.held_apps if done and grant is not None else (),
    )


def _next_step(attempt: Attempt, status: AttemptStatus, results: Sequence[SetResult]) -> NextStep:
    if attempt.failure is not None:
        return NEXT_STEPS.get(attempt.failure, NextStep.TRY_AGAIN)
    if status is AttemptStatus.EXPIRED:
        return NextStep.TRY_AGAIN
    if status is not AttemptStatus.SUCCEEDED:
        return NextStep.NONE
    if any(result.held_apps for result in results):
        return NextStep.MOVE_APP
    return NextStep.WAIT if any(result.status == Status.VERIFYING for result in results) else NextStep.NONE


def _with_id(url: str, attempt_id: str) -> str:
    """The app's URL with `consent_id` added; it proves nothing, the app asks the API."""
    parts = urlsplit(url)
    query = f"{parts.query}&" if parts.query else ""
    return urlunsplit(parts._replace(query=f"{query}{urlencode({'consent_id': attempt_id})}"))
