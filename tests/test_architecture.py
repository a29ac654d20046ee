"""The house rules: the four services meet in Kafka and never import each other; contracts import nothing of ours."""

import ast
import re
from pathlib import Path

import pytest

from contracts.metrics import ALL

ROOT = Path(__file__).parents[1]
OURS = {"contracts", "ingress", "streams", "inference", "analytics", "millrace"}
ALLOWED = {
    "contracts": {"contracts"},
    **{service: {service, "contracts"} for service in ("ingress", "streams", "inference", "analytics")},
}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names & OURS


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    wrong = {
        str(path): extra for path in (ROOT / package).rglob("*.py") if (extra := imported(path) - ALLOWED[package])
    }
    assert wrong == {}


SERIES = ALL.keys() | {series for metric in ALL.values() for series in metric.series}
LIKE_ONE = re.compile(r"\bmillrace_\w+_(?:total|seconds|bytes|ratio|records|requests|tokens|dollars)\b")


def metrics_in(path: Path) -> set[str]:
    """Whose names stand in the file's texts."""
    constants = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
    texts = [text for text in constants if isinstance(text, str)]
    return {word for text in texts for word in re.findall(r"\w+", text) if word in SERIES or LIKE_ONE.fullmatch(word)}


def test_a_metric_is_named_in_one_place() -> None:
    """From there it comes into the documents, and a typo elsewhere can't make another one."""
    place = ROOT / "contracts" / "metrics.py"
    assert metrics_in(place)
    files = [path for package in OURS for path in (ROOT / package).rglob("*.py") if path != place]
    assert {str(path): names for path in files if (names := metrics_in(path))} == {}
