import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts.catalogue import Catalogue, Rule, load_catalogue, parse_toml
from contracts.errors import ConfigError
from contracts.prices import load_prices
from contracts.settings import Settings
from contracts.toml_lines import line_of
from contracts.topics import all_topics

PRICES = """
version = "t"
[[prices]]
model = "m"
since = 2026-01-01
input = "0.15"
cached_input = "0.075"
output = "0.60"
request = "0.001"
[[prices]]
model = "m"
since = 2026-06-01
input = "1"
cached_input = 1
output = "1"
[[prices]]
model = "m"
model_version = "2"
since = 2026-03-01
input = "9"
cached_input = "9"
output = "9"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(text)
    return path


def at(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp() * 1000)


def test_the_shipped_files_fit_each_other() -> None:
    catalogue, prices = load_catalogue(), load_prices()
    now = at(2026, 11, 22)
    assert all(prices.find(model, spec.version, now) for model, spec in catalogue.models.items())


def test_cost_is_exact(tmp_path: Path) -> None:
    price = load_prices(write(tmp_path, PRICES)).find("m", "1", at(2026, 2, 1))
    assert price is not None
    assert price.cost(1_000_000, 0, 0) == 150_000_000 + 1_000_000
    assert price.cost(1000, 400, 10) == 1_000_000 + 600 * 150 + 400 * 75 + 10 * 600


def test_the_price_in_force_is_chosen_by_date_and_version(tmp_path: Path) -> None:
    prices = load_prices(write(tmp_path, PRICES))
    assert prices.find("m", "1", at(2025, 12, 31)) is None
    assert prices.find("other", "1", at(2026, 2, 1)) is None
    found = [
        prices.find("m", "1", at(2026, 5, 31)),
        prices.find("m", "1", at(2026, 6, 1)),
        prices.find("m", "2", at(2026, 7, 1)),
    ]
    assert [price.input for price in found if price] == [150_000_000, 1_000_000_000, 9_000_000_000]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('input = "0.15"', "input = 0.15"),
        ('input = "0.15"', 'input = "-1"'),
        ('input = "0.15"', 'input = "0.0000000001"'),
        ('input = "0.15"', 'input = "cheap"'),
        ("since = 2026-06-01", "since = 2026-01-01"),
        ('version = "t"', ""),
        ('request = "0.001"', 'requests = "0.001"'),
        ('model = "m"', "model = "),
    ],
)
def test_a_wrong_price_file_is_refused(tmp_path: Path, before: str, after: str) -> None:
    assert before in PRICES
    with pytest.raises(ConfigError):
        load_prices(write(tmp_path, PRICES.replace(before, after)))


@pytest.mark.parametrize(
    "text",
    [
        "version = 1",
        'version = "1"\n[models.a]\n[[rules]]\nname = "x"\nmodel = "b"',
        'version = "1"\n[models.auto]\n[[rules]]\nname = "x"\nmodel = "auto"',
        'version = "1"\n[models."a.b"]\n[models."a/b"]\n[[rules]]\nname = "x"\nmodel = "a.b"',
        'version = "1"\n[models.a]\nsped = 1\n[[rules]]\nname = "x"\nmodel = "a"',
    ],
)
def test_a_wrong_routes_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        load_catalogue(write(tmp_path, text))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml can't be read"):
        load_catalogue(Path("nowhere.toml"))


def test_topic_names_are_legal_and_unique() -> None:
    specs = all_topics(Settings(topic_prefix="test."), load_catalogue())
    names = [spec.name for spec in specs]
    assert len(set(names)) == len(names)
    assert all(name.startswith("test.") and len(name) < 249 for name in names)


ROUTES = """version = "1"  # a policy
[models.a]
context_tokens = 100

[models."b.c"]
[classes.pool]
models = [
  "a",
]

[[rules]]
name = "one"
model = "a"
max_complexity = 0.5

[[rules]]
name = "two"
split = { a = 9, "b.c" = 1 }
"""


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("= 100", "= 1", "line 3: models.a.context_tokens"),
        ("= 0.5", "= 5", "line 14: rules.0.max_complexity"),
        ('"a",', '"x",', "line 7: class 'pool' names the model 'x'"),
        ("a = 9", "d = 9", "line 18: rule 'two' names the model 'd'"),
        ('name = "two"', 'name = "one"', "line 17: two rules"),
        ('name = "two"', "nam = 1", "line 16: rules.1.name"),
        ("split = {", 'model = "a"\nsplit = {', "line 16: rule 'two' needs either"),
        ('model = "a"', 'model = "gone"', "line 13: rule 'one' names"),
        ("max_complexity = 0.5", "spend_target = 0.3", "line 14: rule 'one' has a spend_target"),
        ("max_complexity = 0.5", "reference_nano = 9", "line 14: rule 'one' has a reference_nano, but no spend_target"),
        ("[models.a]", '[models."auto:x"]\n[models.a]', "line 2: a model can't be named"),
        ("[classes.pool]", "[classes.a]", "line 6: 'a' is a model already"),
        ("= 0.5", "= = 0.5", "line 14"),
        ("max_complexity = 0.5", "min_prompt_tokens = 9\nmax_prompt_tokens = 8", "line 14: no prompt can fit"),
    ],
)
def test_what_is_wrong_in_a_routes_file_is_said_with_its_line(before: str, after: str, said: str) -> None:
    assert parse_toml(ROUTES, "routes.toml", Catalogue).targets(_rules()[1]) == ["a", "b.c"]
    assert before in ROUTES
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse_toml(ROUTES.replace(before, after, 1), "routes.toml", Catalogue)


def _rules() -> list[Rule]:
    return parse_toml(ROUTES, "routes.toml", Catalogue).rules


def test_the_policy_of_the_docs_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "routing.md").read_text()
    text, _fallback, cascade, shadow = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert len(parse_toml(text, "routing.md", Catalogue).rules) == 3
    models, _, _ = text.partition("[[rules]]")
    assert parse_toml(models + cascade, "routing.md", Catalogue).rules[0].cascade
    assert parse_toml(models + shadow, "routing.md", Catalogue).rules[1].shadow


def refuses(setting: str, why: str) -> None:
    rule = f'name = "r"\nmodel = "small"\n{setting}\n'
    text = f'version = "t"\n[models.small]\n[models.large]\n[[rules]]\n{rule}'
    with pytest.raises(ConfigError, match=f"line 7.*{why}"):
        parse_toml(text, "routes.toml", Catalogue)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ('model = "huge"', "names the model 'huge'"),
        ('model = "small"', "leads to the model that has answered"),
        ('model = "large", mean_logprob = 0.5', "mean_logprob"),
        ('model = "large", on = ["bored"]', "cascade"),
    ],
)
def test_a_cascade_that_cant_be_is_refused_with_its_line(wrong: str, why: str) -> None:
    refuses(f"cascade = {{ {wrong} }}", why)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ('model = "huge", share = 0.1', "names the model 'huge'"),
        ('model = "small", share = 0.1', "is the model that answers"),
        ('model = "large", share = 0', "share"),
        ('model = "large", share = 1.5', "share"),
        ('model = "large"', "share"),
    ],
)
def test_a_shadow_that_cant_be_is_refused_with_its_line(wrong: str, why: str) -> None:
    refuses(f"shadow = {{ {wrong} }}", why)


def test_a_line_is_found_by_its_tables_number() -> None:
    text = '[[a]]\nx = 1\n[a.b]\ny = 2\n[[a]]\n[a.b]\n"y z" = 3 # [[a]]\n'
    assert line_of(text, ("a", 0, "b", "y")) == 4
    assert line_of(text, ("a", 1, "b", "y z")) == 7
    assert line_of(text, ("a", 1, "missing")) == 5
    assert line_of(text, ("nothing",)) is None
