"""The image's own steps, in a clean virtual environment: what the Dockerfile copies is enough to install and run."""

import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_what_the_image_copies_installs_and_runs(tmp_path: Path) -> None:
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    context = tmp_path / "context"
    context.mkdir()
    for sources, target in re.findall(r"^COPY (.+) (\S+)$", dockerfile, re.MULTILINE):
        for source in sources.split():
            _copy(ROOT / source, context / target / Path(source).name if target == "./" else context / target)
    [step] = re.findall(r"^RUN sh (\S+) /opt/millrace$", dockerfile, re.MULTILINE)
    subprocess.run(["sh", step, str(tmp_path / "venv")], cwd=context, check=True, timeout=600)
    # Not from the checkout: the packages and their data files must be in the wheel.
    check = "from contracts.catalogue import load_catalogue; print(len(load_catalogue().models))"
    done = subprocess.run([tmp_path / "venv/bin/python", "-c", check], cwd=tmp_path, capture_output=True, check=True)
    assert int(done.stdout) == 2


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
