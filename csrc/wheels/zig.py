"""Where the C compiler for other systems is: zig, of the version that pyproject.toml's extra ``wheels`` pins.

Zig brings the headers and the symbol lists of all its targets, so that one PC builds for every Linux and for macOS.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def cache() -> Path:
    """Return the directory for what is downloaded or compiled once: ``IBLBRIDGE_CACHE``, or one of this user's."""
    return Path(os.environ.get('IBLBRIDGE_CACHE') or Path.home() / '.cache' / 'iblbridge').absolute()


def pinned() -> str:
    """Return the version in pyproject.toml."""
    found = re.search(r'"ziglang==([\w.]+)"', (ROOT / 'pyproject.toml').read_text(encoding='utf-8'))
    if found is None:
        raise ValueError('pyproject.toml pins no ziglang')
    return found[1]


def zig() -> Path:
    """Return the program: that of this Python's package, or one that pip brings into the cache.

    Returns
    -------
    pathlib.Path
        ``zig``, of the pinned version.

    Raises
    ------
    subprocess.CalledProcessError
        If pip cannot bring it.
    """
    version = pinned()
    try:
        spec = importlib.util.find_spec('ziglang')
        if spec and spec.origin and importlib.metadata.version('ziglang') == version:
            return Path(spec.origin).with_name('zig')
    except importlib.metadata.PackageNotFoundError:
        pass
    place = cache() / f'ziglang-{version}'
    if not place.exists():
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache()) as temporary:
            fresh = Path(temporary) / 'ziglang'
            command = [sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--target', str(fresh)]
            subprocess.run([*command, f'ziglang=={version}'], check=True)
            try:
                fresh.rename(place)
            except OSError:
                if not place.exists():  # else another process was faster
                    raise
    return place / 'ziglang' / 'zig'


def environment() -> dict[str, str]:
    """Return the environment in which zig keeps what it compiles for each target in our cache."""
    compiled = str(cache() / 'zig')
    return {**os.environ, 'ZIG_GLOBAL_CACHE_DIR': compiled, 'ZIG_LOCAL_CACHE_DIR': compiled}
