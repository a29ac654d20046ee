"""A service whose log can't be written goes on: a full disk must not end what needs no disk."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import logging, resource, structlog
from contracts.logs import configure_logging
from contracts.settings import Settings

def both(word):
    structlog.get_logger().warning(word)
    logging.getLogger("library").warning(word)

configure_logging(Settings())
both("before")
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
both("while the disk is full")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
both("after")
print("went on")
"""


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    with log.open("ab") as stderr:
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=stderr, check=False, timeout=60
        )
    assert (ended.returncode, ended.stdout) == (0, b"went on\n"), log.read_text()
    written = log.read_text()
    assert written.count("before") == 2
    assert written.count("after") == 2
