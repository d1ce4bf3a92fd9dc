"""The contracts as documents: a JSON Schema of each event type, an AsyncAPI document of each service.

Both are made from ``events`` and ``topics`` and checked in; ``incompatibilities`` is what a change of them must pass.
"""

from typing import Any

from pydantic.json_schema import models_json_schema

from shared.events import EVENT_TYPES, TYPE_PREFIX, EventData
from shared.topics import TOPICS, Topic

Schema = dict[str, Any]

SERVICES = {
    "consent-gateway": "Grants, changes and removals of consent, as the gateway committed them.",
    "tenant-registry": "Reads consent events; tells what it has made readable, and keeps each tenant's state.",
    "notifier": "Reads status events and brings them to subscribers.",
}

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_HEADERS: Schema = {
    "type": "object",
    "description": "CloudEvents 1.0, Kafka protocol binding, binary mode.",
    "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type"],
    "properties": {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": {"type": "string", "description": "Unique for ever, together with the source; kept by repetitions."},
        "ce_source": {"type": "string", "enum": ["/consent-gateway", "/tenant-registry"]},
        "ce_type": {"type": "string"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_subject": {"type": "string", "description": "`{tenant_id}/{permission_set_id}` or `{tenant_id}`."},
        "content-type": {"type": "string", "const": "application/json"},
    },
}


def schema_of(kind: type[EventData]) -> Schema:
    """The JSON Schema of an event's data: what a reader may rely on; more fields can come at any time."""
    schema = kind.model_json_schema(mode="validation")
    identity = {"$schema": _DRAFT, "$id": f"urn:visionone:entra:{kind.type_name}:v1"}
    return identity | schema


def asyncapi_of(service: str) -> Schema:
    """The AsyncAPI 3.0 document of a service: what it writes and reads, on which topics."""
    written = [topic for topic in TOPICS if topic.producer == service]
    read = [topic for topic in TOPICS if service in topic.consumers]
    kinds = {name: EVENT_TYPES[f"{TYPE_PREFIX}{name}.v1"] for topic in (*written, *read) for name in topic.event_types}
    _, definitions = models_json_schema(
        [(kind, "validation") for kind in kinds.values()], ref_template="#/components/schemas/{model}"
    )
    return {
        "asyncapi": "3.0.0",
        "info": {"title": service, "version": "1.0.0", "description": SERVICES[service]},
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in (*read, *written)},
        "operations": {
            **{f"receive.{topic.name}": _operation(topic, "receive", service) for topic in read},
            **{f"send.{topic.name}": _operation(topic, "send", service) for topic in written},
        },
        "components": {
            "messages": {name: _message(kind) for name, kind in kinds.items()},
            "schemas": definitions["$defs"],
        },
    }


def _channel(topic: Topic) -> Schema:
    configuration: Schema = {"cleanup.policy": [topic.cleanup_policy]}
    if topic.retention_ms is not None:
        configuration["retention.ms"] = topic.retention_ms
    return {
        "address": topic.name,
        "description": f"Key: {topic.key}. Written by {topic.producer}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in topic.event_types},
        "bindings": {"kafka": {"partitions": topic.partitions, "topicConfiguration": configuration}},
    }


def _operation(topic: Topic, action: str, service: str) -> Schema:
    channel = f"#/channels/{topic.name}"
    operation: Schema = {
        "action": action,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{name}"} for name in topic.event_types],
    }
    if action == "receive":
        operation["bindings"] = {"kafka": {"groupId": {"type": "string", "const": service}}}
    return operation


def _message(kind: type[EventData]) -> Schema:
    return {
        "name": f"{TYPE_PREFIX}{kind.type_name}.v1",
        "title": kind.type_name,
        "summary": (kind.__doc__ or "").strip().splitlines()[0],
        "contentType": "application/json",
        "headers": _HEADERS,
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        "bindings": {"kafka": {"key": {"type": "string"}}},
    }


def incompatibilities(old: Schema, new: Schema) -> list[str]:
    """What of a new schema would fail a reader or a record of the old one; empty where all may stay as they are.

    Allowed are new optional fields, wider types and other words. A field that was always there must stay so, because
    readers that can't be changed rely on it; anything else is a new version of the type.
    """
    return _compare(old, new, old, new, "data")


def _compare(old: Schema, new: Schema, old_root: Schema, new_root: Schema, path: str) -> list[str]:
    old, new = _resolve(old, old_root), _resolve(new, new_root)
    found: list[str] = []
    accepted = _alternatives(new, new_root)
    for alternative in _alternatives(old, old_root):
        same_type = [item for item in accepted if item.get("type") == alternative.get("type")]
        if not same_type:
            found.append(f"{path}: {alternative.get('type', 'a value')} is no longer accepted")
            continue
        candidates = [_compare_one(alternative, item, old_root, new_root, path) for item in same_type]
        fewest: list[str] = min(candidates, key=len)
        found += fewest
    return found


def _compare_one(old: Schema, new: Schema, old_root: Schema, new_root: Schema, path: str) -> list[str]:
    found = [
        f"{path}: {word} is {new.get(word)!r}, was {old.get(word)!r}"
        for word in ("pattern", "format", "const", "minimum", "maximum", "minLength", "maxLength")
        if word in new and new.get(word) != old.get(word)
    ]
    if "enum" in new and not set(old.get("enum", [object()])) <= set(new["enum"]):
        found.append(f"{path}: values were taken away")
    if "items" in new:
        found += _compare(old.get("items", {}), new["items"], old_root, new_root, f"{path}[]")
    values, new_values = old.get("additionalProperties"), new.get("additionalProperties")
    if isinstance(new_values, dict):
        found += _compare(values if isinstance(values, dict) else {}, new_values, old_root, new_root, f"{path}{{}}")
    properties, new_properties = old.get("properties", {}), new.get("properties", {})
    for name, schema in properties.items():
        if name in new_properties:
            found += _compare(schema, new_properties[name], old_root, new_root, f"{path}.{name}")
        else:
            found.append(f"{path}.{name}: was removed")
    required, new_required = set(old.get("required", [])), set(new.get("required", []))
    found += [f"{path}.{name}: is newly required" for name in sorted(new_required - required)]
    found += [f"{path}.{name}: is no longer always there" for name in sorted(required - new_required)]
    return found


def _alternatives(schema: Schema, root: Schema) -> list[Schema]:
    return [_resolve(item, root) for item in schema.get("anyOf", [schema])]


def _resolve(schema: Schema, root: Schema) -> Schema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    resolved: Schema = root["$defs"][reference.removeprefix("#/$defs/")]
    return resolved
