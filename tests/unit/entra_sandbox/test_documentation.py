"""docs/sandbox.md names everything that can be set."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from entra_sandbox.faults import NewFault
from entra_sandbox.flaws import Flaw
from entra_sandbox.model import Behaviour
from entra_sandbox.settings import Settings

PAGE = (Path(__file__).parents[3] / "docs" / "sandbox.md").read_text()


def variables(model: type[BaseModel], prefix: str = "") -> list[str]:
    names: list[str] = []
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            names += variables(nested, f"{prefix}{name.upper()}__")
        else:
            names.append(f"{prefix}{name.upper()}")
    return names


@pytest.mark.parametrize("name", [*variables(Settings), *Flaw, *Behaviour.model_fields, *NewFault.model_fields])
def test_the_page_names(name: str) -> None:
    assert f"`{name}`" in PAGE
