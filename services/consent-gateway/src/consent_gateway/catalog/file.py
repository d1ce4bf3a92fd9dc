"""Reading the catalogue from its YAML file, strictly: a wrong file is one readable line, never a surprise later."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from consent_gateway.catalog.building import build
from consent_gateway.catalog.form import CatalogForm
from consent_gateway.catalog.model import Catalog
from consent_gateway.errors import CatalogError

# The one that libyaml backs reads ten times as fast; wheels have it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, kw_only=True)
class CatalogContent:
    """A catalogue as it is kept: its version, and all that it says in one canonical form.

    Comments, order of keys and values that are the default don't matter, so they don't make it another content.
    """

    version: int
    text: str

    @property
    def digest(self) -> str:
        """Equal for equal contents."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def catalog(self, client_ids: Mapping[str, str], *, at: datetime | None = None, edition: int = 0) -> Catalog:
        """The catalogue at this moment; without one, as if no planned version's date had come.

        What a newer release of the gateway wrote, this one may not know in every field: such fields are left out.

        Raises:
            CatalogError: it refers to what isn't there, or a registration has no client id.
        """
        try:
            file = CatalogForm.model_validate_json(self.text, extra="ignore")
        except ValidationError as error:
            raise CatalogError(_first(error)) from None
        catalog = build(file, client_ids)
        sets = {name: replace(one if at is None else one.at(at), edition=edition) for name, one in catalog.sets.items()}
        return replace(catalog, sets=sets, edition=edition)


def load_catalog(path: Path | None, client_ids: Mapping[str, str]) -> Catalog:
    """The catalogue of the file, or the packaged one, with the client id of every registration that it uses.

    Raises:
        CatalogError: the file can't be read, has another form, or refers to what isn't there.
    """
    return load_content(path, client_ids)[1]


def load_content(path: Path | None, client_ids: Mapping[str, str]) -> tuple[CatalogContent, Catalog]:
    """What the file says, and its catalogue, from one reading of it; as ``load_catalog``."""
    content = read_catalog(path)
    try:
        return content, content.catalog(client_ids)
    except CatalogError as error:
        raise CatalogError(f"{_name(path)}: {error}") from None


def read_catalog(path: Path | None) -> CatalogContent:
    """What the file, or the packaged one, says; its form is checked, what it refers to is not.

    Raises:
        CatalogError: the file can't be read or has another form.
    """
    name = _name(path)
    try:
        text = _packaged() if path is None else path.read_text(encoding="utf-8")
        content: Any = yaml.load(text, Loader=_LOADER)  # noqa: S506 - both are safe loaders
    except OSError as error:
        raise CatalogError(f"{name}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CatalogError(f"{name}: is not YAML: {' '.join(str(error).split())[:200]}") from None
    try:
        file = CatalogForm.model_validate(content)
    except ValidationError as error:
        raise CatalogError(f"{name}: {_first(error)}") from None
    # Defaults are left out: a later release that adds a field doesn't make the same file another one.
    canonical = json.dumps(file.model_dump(mode="json", by_alias=True, exclude_defaults=True), sort_keys=True)
    return CatalogContent(version=file.version, text=canonical)


def _name(path: Path | None) -> str:
    return str(path) if path is not None else "the packaged catalogue"


def _first(error: ValidationError) -> str:
    item = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}"


def _packaged() -> str:
    return resources.files("consent_gateway").joinpath("catalog.yaml").read_text(encoding="utf-8")
