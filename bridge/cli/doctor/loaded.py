"""Which library a program gets: what version a file has, where the system looks, what a process has loaded."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

_ASK = 'import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).iblb_version())'
_MAPPED = re.compile(r'\s(/.*/(?:lib)?iblbridge(?:_32|_64)?\.(?:so|dylib))( \(deleted\))?$', re.MULTILINE)


def version_text(number: int) -> str:
    """Return 10203 as 1.2.3."""
    return f'{number // 10000}.{number // 100 % 100}.{number % 100}'


def version_of(path: str) -> str:
    """Return the version of a library, "" if it cannot be asked: of other bits than this Python, or damaged.

    It is loaded by a process of its own: nobody knows what it does.
    """
    words = [sys.executable, '-I', '-c', _ASK, path]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors='replace', check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ''
    said = done.stdout.strip()
    return version_text(int(said)) if done.returncode == 0 and said.isascii() and said.isdigit() else ''


def system_folders(platform: str = sys.platform) -> Sequence[str]:
    """Return where the system itself looks for libraries; of Linux the usual places, whatever ld.so.conf says."""
    if platform == 'win32':
        return ()
    if platform == 'darwin':
        return (str(Path.home() / 'lib'), '/usr/local/lib', '/usr/lib')
    multiarch = sysconfig.get_config_var('MULTIARCH')
    own = [f'{above}/{multiarch}' for above in ('/usr/local/lib', '/lib', '/usr/lib')] if multiarch else []
    return ('/usr/local/lib', '/usr/local/lib64', *own, '/lib', '/lib64', '/usr/lib', '/usr/lib64')


def mapped(maps: str) -> dict[str, bool]:
    """Return the libraries that a process has loaded, and of each whether it was replaced or removed since.

    Parameters
    ----------
    maps : str
        What ``/proc/PID/maps`` says.

    Returns
    -------
    dict of str to bool
        By path; usually there is one.
    """
    return {found[1]: found[2] is not None for found in _MAPPED.finditer(maps)}


def loaded_by(pid: int) -> dict[str, bool]:
    """Return the same of a process; {} where the system does not say."""
    try:
        return mapped(Path(f'/proc/{pid}/maps').read_text(errors='replace'))
    except OSError:
        return {}
