"""The update that merges a change into a tenant's document, inside MongoDB, so that no order of changes matters.

A document is found by its ``facets`` (see ``projection.facets_of``) and by ``consents``: which sets it consented to.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bson import ObjectId

from tenant_registry.projection import PREFIX_LENGTH, Profile, TenantChange, facets_of, words_of

if TYPE_CHECKING:
    from shared.mongo import Document

Expression = Any


def pipeline_of(change: TenantChange) -> list[dict[str, Any]]:
    """The update that merges a change into a document, whatever the document is.

    A missing field compares as smaller than any number, so a new document needs no case of its own.
    """
    newer = {"$lt": ["$revision", change.revision]}
    applies: list[Expression] = [newer]
    head: dict[str, Expression] = {
        "account_id": change.account_id,
        "tenant_id": change.tenant_id,
        "revision": {"$max": ["$revision", change.revision]},
        "updated_at": {"$cond": [newer, change.updated_at, "$updated_at"]},
        "cloud": {"$cond": [newer, {"$literal": change.cloud}, "$cloud"]},
    }
    parts: dict[str, Expression] = {}
    if change.profile is not None:
        guard = {"$lt": [{"$max": ["$profile.revision", "$removed_revision"]}, change.profile.revision]}
        applies.append(guard)
        parts["profile"] = _choose(guard, _profile(change.profile), "$profile")
    guards: list[Expression] = []
    for permission_set_id, grant in change.grants.items():
        path = f"grants.{permission_set_id}"
        guard = {"$lt": [{"$max": [f"${path}.revision", "$removed_revision"]}, grant["revision"]]}
        guards.append(guard)
        parts[path] = _choose(guard, {**grant, "facets": facets_of(grant)}, f"${path}")
    applies += guards
    removed = {"$ifNull": ["$removed", False]}
    if change.removed_revision:
        applies.append({"$lt": ["$removed_revision", change.removed_revision]})
        head["removed_revision"] = {"$max": ["$removed_revision", change.removed_revision]}
    else:
        head["removed"] = {"$cond": [{"$or": guards}, False, removed]} if guards else removed
    changed = {"$or": applies}
    head["state_pending"] = {"$cond": [changed, {"$ifNull": ["$state_pending", "$$NOW"]}, "$state_pending"]}
    head["state_mark"] = {"$cond": [changed, ObjectId(), "$state_mark"]}
    if change.removed_revision:
        return [{"$set": head}, *_REMOVAL, {"$set": parts}, {"$set": {**FOUND_BY, "removed": _NO_GRANTS}}]
    return [{"$set": {**head, **parts}}, *([{"$set": FOUND_BY}] if guards else [])]


def _choose(guard: Expression, new: object, old: str) -> Expression:
    return {"$cond": [guard, {"$literal": new}, old]}


# A tenant's events come together, and all bring its name. What callers search for is never kept.
_words = lru_cache(maxsize=4_096)(words_of)


def _profile(profile: Profile) -> "Document":
    words = _words(profile.tenant_name, profile.primary_domain)
    return {
        "revision": profile.revision,
        "tenant_name": profile.tenant_name,
        "primary_domain": profile.primary_domain,
        "words": words,
        "prefixes": sorted({word[:PREFIX_LENGTH] for word in words}),
    }


_GRANTS = {"$objectToArray": {"$ifNull": ["$grants", {}]}}
_REMOVAL: list[dict[str, Any]] = [
    {
        "$set": {
            "grants": {
                "$arrayToObject": {
                    "$filter": {"input": _GRANTS, "cond": {"$gt": ["$$this.v.revision", "$removed_revision"]}}
                }
            },
            "profile": {"$cond": [{"$gt": ["$profile.revision", "$removed_revision"]}, "$profile", "$$REMOVE"]},
        }
    }
]
_FACETS = {"$reduce": {"input": _GRANTS, "initialValue": [], "in": {"$concatArrays": ["$$value", "$$this.v.facets"]}}}
_CONSENTED = {"$filter": {"input": _GRANTS, "cond": {"$ne": ["$$this.v.status", "revoked"]}}}
# The ids of the sets that are consented to, in order and with a space behind each: one value per combination.
_CONSENTS = {
    "$reduce": {
        "input": {"$sortArray": {"input": {"$map": {"input": _CONSENTED, "in": "$$this.k"}}, "sortBy": 1}},
        "initialValue": "",
        "in": {"$concat": ["$$value", "$$this", " "]},
    }
}
FOUND_BY = {"facets": _FACETS, "consents": _CONSENTS}
_VERSION_FACET = {"$concat": ["set:", "$$this.k", ":v", {"$toString": "$$this.v.version"}]}
VERSIONED = {
    "$set": {
        "grants": {
            "$arrayToObject": {
                "$map": {
                    "input": _GRANTS,
                    "in": {
                        "k": "$$this.k",
                        "v": {
                            "$mergeObjects": [
                                "$$this.v",
                                {"facets": {"$setUnion": ["$$this.v.facets", [_VERSION_FACET]]}},
                            ]
                        },
                    },
                }
            }
        }
    }
}
_NO_GRANTS = {"$eq": [{"$ifNull": ["$grants", {}]}, {}]}
