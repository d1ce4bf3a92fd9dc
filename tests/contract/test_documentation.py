"""Generated documentation is current, and links inside the documentation lead somewhere."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in ROOT.glob("**/*.md") if not {".venv", ".local"} & set(path.parts))


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_current(generate: ModuleType) -> None:
    for path, make in generate.GENERATED.items():
        assert path.read_text() == make(), f"{path.name} is stale: run make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_and_to_files_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", ["Makefile", "bench/README.md"])
def test_every_benchmark_is_named_where_it_is_looked_for(page: str) -> None:
    (line,) = re.findall(r"^NAMES = \((.*)\)$", (ROOT / "bench" / "__main__.py").read_text(), re.MULTILINE)
    text = (ROOT / page).read_text()
    assert [name for name in re.findall(r'"(\w+)"', line) if not re.search(rf"\b{name}\b", text)] == []
