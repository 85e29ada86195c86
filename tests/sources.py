"""Where things are in the repository, and which C sources make up the library: as ``csrc/CMakeLists.txt`` says."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
CSRC = ROOT / 'csrc'


def library(system: str = 'Linux', csrc: Path = CSRC) -> list[Path]:
    """Return the sources for a system, named as CMake does, out of a folder."""
    lists = (CSRC / 'CMakeLists.txt').read_text()
    found = [re.search(rf'set\({name}([^)]*)\)', lists) for name in ('sources', f'os_{system}')]
    return [csrc / name for part in found if part for name in part[1].split()]
