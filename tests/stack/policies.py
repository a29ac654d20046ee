"""A routing policy for a while, for one test's own feature: others use the same stack."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

from tests.support.commands import millrace

_FIRST_RULE = '[[rules]]\nname = "simple"'


@asynccontextmanager
async def applied(data_dir: Path, folder: Path, rule: str, feature: str) -> AsyncIterator[None]:
    """The shipped policy, and before its rules this one (TOML, without name and features)."""
    shipped, policy = files("contracts").joinpath("routes.toml").read_text(), folder / "routes.toml"
    assert _FIRST_RULE in shipped, "the shipped policy has another first rule"
    ours = f'[[rules]]\nname = "ours"\nfeatures = ["{feature}"]\n{rule}\n\n'
    policy.write_text(shipped.replace(_FIRST_RULE, ours + _FIRST_RULE))
    told = await millrace(data_dir, "route", "apply", policy, "--uncalibrated")
    try:
        assert told.status == 0, told
        yield
    finally:
        assert (await millrace(data_dir, "route", "reset")).status == 0
