import re
from pathlib import Path

import pytest
from markupsafe import Markup

import consent_gateway
from consent_gateway.catalog.functions import DIRECTORY_ROLE, LICENCE, RESOURCE
from consent_gateway.consent.attempts import AttemptStatus, Channel, NextStep
from consent_gateway.consent.invited import InvitationStatus
from consent_gateway.consent.transfers import TransferStatus
from consent_gateway.errors import Kind
from consent_gateway.grants.grants import Reason, Status
from consent_gateway.web.texts import LANGUAGE, _texts, alternatives, listed, text

TEXTS = _texts(LANGUAGE)
# What the pages show besides the consent flow's own refusals.
PAGES = {
    *Kind,
    *("form_refused", "issuer_unavailable", "store_unavailable", "registry_unavailable", "internal"),
    *("sign_in_unknown", "sign_in_cancelled", "sign_in_failed", "no_access"),
}
CHOSEN = {
    *(f"problem.{kind}.{part}" for kind in PAGES for part in ("title", "what", "next")),
    *(f"why.revoked.{reason}" for reason in Reason),
    *(f"attempt.next.{step}" for step in NextStep),
    *(f"status.{status}" for status in [*Status, "none"]),
    *(f"permission.{state}" for state in ("granted", "missing", "new", "verifying", "unverified", "required", "extra")),
    *("type.application", "type.delegated", "add.error.malformed", "add.error.invalid", "status.update_available.word"),
    *(f"from_app.{state}" for state in ("ready", "lacks", "held_back", "verifying", "unconnected")),
    *(f"note.{kind}" for kind in (DIRECTORY_ROLE, LICENCE, RESOURCE)),
    *(f"invitations.status.{status}" for status in InvitationStatus),
    *(f"invitations.error.{error}" for error in ("malformed", "invalid", "too_many")),
    *(f"many.error.{error}" for error in ("malformed", "invalid", "too_many")),
    *(f"{part}.{status}" for part in ("transfers.status", "attempt.transfer") for status in TransferStatus),
    *(f"history.channel.{channel}" for channel in Channel),
    *(f"history.why.{reason}" for reason in Reason),
    *(f"history.actor.{kind}" for kind in ("user", "administrator", "app", "system")),
    *(f"history.type.Permission{change}" for change in ("Granted", "Changed", "Blocked", "Revoked")),
    *(f"history.type.{kind}" for kind in ("TenantUpdated", "TenantRemoved", "ConsentFailed")),
    *(f"action.{name}" for name in ("grant", "again", "update")),
    *(f"cloud.{name}" for name in ("global", "usgov", "china")),
    *(
        f"attempt.{part}.{status}"
        for part in ("title", "lead")
        for status in {*AttemptStatus, "verifying"} - {AttemptStatus.DECLINED, AttemptStatus.FAILED}
    ),
}


def _named() -> set[str]:
    """The keys that templates and code name."""
    package = Path(consent_gateway.__file__).parent
    content = "\n".join(each.read_text() for suffix in ("py", "html") for each in package.rglob(f"*.{suffix}"))
    return set(re.findall(r"[\"']([a-z_]+(?:\.[a-z_]+)*)[\"']", content))


def _stem(key: str) -> str:
    return key.removesuffix(".one").removesuffix(".other")


def test_every_text_that_can_be_chosen_exists() -> None:
    missing = sorted(CHOSEN - TEXTS.keys())
    assert not missing


def test_no_text_is_left_over() -> None:
    named = _named()
    unused = {key for key in TEXTS if key not in CHOSEN and key not in named and _stem(key) not in named}
    assert not unused


def test_forms_for_one_and_many_come_in_pairs_with_the_same_gaps() -> None:
    for key in TEXTS:
        if key.endswith(".one"):
            gaps = [set(re.findall(r"{(\w+)}", TEXTS[each])) for each in (key, _stem(key) + ".other")]
            assert gaps[0] == gaps[1], key


def test_what_fills_a_text_is_escaped_unless_it_is_markup() -> None:
    assert text("account.sign_out") == "Sign out"
    shown = text("screen.caption", tenant="<b>Contoso</b> & {0}")
    assert shown == Markup("Permission sets on &lt;b&gt;Contoso&lt;/b&gt; &amp; {0}")
    assert text("tenant.checked", time=Markup("<time>now</time>")) == Markup("Checked <time>now</time>")


def test_a_count_chooses_the_form() -> None:
    assert [text("permissions", count=count) for count in (0, 1, 4)] == [
        "0 permissions",
        "1 permission",
        "4 permissions",
    ]


@pytest.mark.parametrize(
    ("items", "shown"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (list("abcde"), "a, b and 3 more"),
    ],
)
def test_lists_read_as_sentences(items: list[str], shown: str) -> None:
    assert listed(items) == shown


def test_alternatives_read_as_sentences() -> None:
    assert alternatives(["a", "b", "c"]) == "a, b or c"
