"""A worker as a user's unit of systemd: what stands in the unit's file, and how systemd is told of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP = 90  # s that a worker has to end in an orderly way: services may take long to answer
AGAIN = 2  # s before it is started again after a crash


def unit_name(segment: str) -> str:
    """Return the name of a rig's unit."""
    return f'iblbridge-{segment}.service'


def folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where a user's units stand."""
    return Path(environment.get('XDG_CONFIG_HOME') or Path.home() / '.config') / 'systemd' / 'user'


def quoted(word: str) -> str:
    r"""Return a word as a line of a unit takes it: in double quotes, with its own signs doubled.

    Examples
    --------
    >>> print(quoted('50 % of "$HOME"'))
    "50 %% of \"$$HOME\""
    """
    escaped = word.replace('\\', '\\\\').replace('"', '\\"').replace('%', '%%').replace('$', '$$')
    return '"' + escaped.replace('\n', '\\n').replace('\t', '\\t') + '"'


def unit(segment: str, words: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return what stands in the file of a unit.

    Parameters
    ----------
    segment : str
        The rig's name.
    words : sequence of str
        The command that serves it.
    environment : mapping of str to str
        What it has to have in its environment.
    """
    set_up = ''.join(f'Environment={quoted_setting(name, value)}\n' for name, value in environment.items())
    return (
        '# Written by "iblbridge install"; "iblbridge uninstall" removes it.\n'
        f'[Unit]\nDescription=iblbridge: the worker of {segment}\nStartLimitIntervalSec=0\n\n'
        f'[Service]\nExecStart={" ".join(map(quoted, words))}\n'
        f'ExecReload={" ".join(map(quoted, reloading(segment, words)))}\n{set_up}'
        f'Restart=on-failure\nRestartSec={AGAIN}\n'
        '# Misuse (2) ends by being corrected, not by trying again.\nRestartPreventExitStatus=2\n'
        f'TimeoutStopSec={STOP}\nKillMode=mixed\n\n'
        '[Install]\nWantedBy=default.target\n'
    )


def reloading(segment: str, words: Sequence[str]) -> list[str]:
    """Return the command that has a worker read its files again, by the same Python: it says what came of it."""
    return [*words[: [*words, 'serve'].index('serve')], 'reload', segment]


def quoted_setting(name: str, value: str) -> str:
    """Return a line's right side that sets a variable; there a $ means itself."""
    return quoted(f'{name}={value}').replace('$$', '$')


def segments() -> list[str]:
    """Return the rigs that have a unit."""
    found = (re.fullmatch(r'iblbridge-(.+)\.service', path.name) for path in folder().glob('iblbridge-*.service'))
    return sorted(match[1] for match in found if match)


def install(segment: str, words: Sequence[str], environment: Mapping[str, str]) -> str:
    """Write the unit, and have it started now and at each login; return what is left to do, "" if nothing.

    Raises
    ------
    OSError
        The unit cannot be written.
    """
    place = folder() / unit_name(segment)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(unit(segment, words, environment), 'utf-8')
    for command in (['daemon-reload'], ['enable', unit_name(segment)], ['restart', unit_name(segment)]):
        if failed := _systemctl(command):
            place.unlink(missing_ok=True)
            return (
                f'systemd does not run for this user here ({failed}), so nothing is installed. '
                f'Start the worker by hand: iblbridge serve --segment {segment} ...'
            )
    return ''


def uninstall(segment: str) -> str:
    """Stop the unit and remove it; return what is left to do, "" if nothing."""
    failed = _systemctl(['disable', '--now', unit_name(segment)])
    (folder() / unit_name(segment)).unlink(missing_ok=True)
    failed = _systemctl(['daemon-reload']) or failed
    return f'The unit is removed, but systemd was not told: {failed}. A worker that runs goes on.' if failed else ''


def state(segment: str) -> str:
    """Return what systemd says of the unit, such as ``active (running)``, or why it says nothing."""
    words = ['systemctl', '--user', 'show', unit_name(segment), '--property=ActiveState,SubState,UnitFileState']
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as e:
        return f'systemd cannot be asked: {e}'
    if done.returncode:
        return f'systemd cannot be asked: {_first_line(done.stderr)}'
    said = dict(line.split('=', 1) for line in done.stdout.splitlines() if '=' in line)
    enabled = ', starts with the login' if said.get('UnitFileState') == 'enabled' else ', does not start by itself'
    return f'{said.get("ActiveState", "?")} ({said.get("SubState", "?")}){enabled}'


def lingers() -> bool | None:
    """Return whether this user's units run without a login; None if nobody can say."""
    if sys.platform == 'win32':
        return None
    try:
        words = ['loginctl', 'show-user', str(os.getuid()), '--property=Linger', '--value']
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() == 'yes' if done.returncode == 0 else None


def _systemctl(command: Sequence[str]) -> str:
    """Tell systemd something; return why it does not take it, "" if it does."""
    try:
        words = ['systemctl', '--user', *command]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=STOP + 10)
    except FileNotFoundError:
        return 'there is no systemctl on this computer'
    except (OSError, subprocess.TimeoutExpired) as e:
        return str(e)
    return _first_line(done.stderr) if done.returncode else ''


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ['it does not say why'])[0].rstrip('.')
