"""A tenant whose requests have two attempts where the first answer is unsure, and now and then a shadow run."""

from importlib.resources import files
from pathlib import Path

UNSURE = "unsure"
SMALL, LARGE = "small", "large"
_FIRST_RULE = '[[rules]]\nname = "simple"'
# Weighed to its end, or for 20 tokens of a stream: by its mean, so that whole answers go on as well as begun ones.
_RULE = f"""[[rules]]
name = "weighed"
model = "{SMALL}"
tenants = ["{UNSURE}"]
cascade = {{ model = "{LARGE}", on = ["unsure"], worst_logprob = -1000, hold_tokens = 20, hold_ms = 60000 }}
shadow = {{ model = "{LARGE}", share = 0.5 }}

"""


def write_routes(folder: Path) -> Path:
    """The shipped policy, and before its rules that of this tenant."""
    shipped = files("contracts").joinpath("routes.toml").read_text()
    assert _FIRST_RULE in shipped, "the shipped policy has another first rule"
    folder.mkdir(parents=True, exist_ok=True)
    routes = folder / "routes.toml"
    routes.write_text(shipped.replace(_FIRST_RULE, _RULE + _FIRST_RULE))
    return routes


def sureness(*, sure: bool) -> dict[str, dict[str, str]]:
    """For a request's body: how likely the synthetic engine says that its tokens were, whichever model it serves."""
    return {"metadata": {"synthetic_logprob": "-0.01" if sure else "-3"}}
