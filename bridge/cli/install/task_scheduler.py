"""A worker as a task of Windows that starts when its user logs on: what the task is, and how Windows is told of it.

A task at logon, and not a Windows service: that would run in a session of its own, where programs of the user do not
find the worker's events.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

NAMESPACE = 'http://schemas.microsoft.com/windows/2004/02/mit/task'
FOLDER = 'iblbridge'  # of the task scheduler's library


def task_name(segment: str) -> str:
    r"""Return the name of a rig's task, such as ``iblbridge\rig0``."""
    return f'{FOLDER}\\{segment}'


def task(segment: str, words: Sequence[str], user: str) -> bytes:
    """Return the definition of a task, as ``schtasks /create /xml`` reads it: XML in UTF-16.

    Parameters
    ----------
    segment : str
        The rig's name.
    words : sequence of str
        The command that serves it; a program of Windows without a console.
    user : str
        Whose logon starts it, with the domain or computer.
    """
    root = ElementTree.Element('Task', version='1.2', xmlns=NAMESPACE)

    def add(path: str, text: str = '') -> None:
        place = root
        for name in path.split('/'):
            found = place.find(name)
            place = ElementTree.SubElement(place, name) if found is None else found
        place.text = text or None

    add('RegistrationInfo/Description', f'iblbridge: the worker of {segment}')
    add('Triggers/LogonTrigger/Enabled', 'true')
    add('Triggers/LogonTrigger/UserId', user)
    add('Principals/Principal/UserId', user)
    add('Principals/Principal/LogonType', 'InteractiveToken')
    add('Principals/Principal/RunLevel', 'LeastPrivilege')
    add('Settings/MultipleInstancesPolicy', 'IgnoreNew')
    add('Settings/DisallowStartIfOnBatteries', 'false')
    add('Settings/StopIfGoingOnBatteries', 'false')
    add('Settings/RestartOnFailure/Interval', 'PT1M')  # the least that Windows takes
    add('Settings/RestartOnFailure/Count', '999')
    add('Settings/ExecutionTimeLimit', 'PT0S')  # none
    add('Settings/Priority', '5')  # of a usual program; without it a task gets less
    add('Actions/Exec/Command', words[0])
    add('Actions/Exec/Arguments', subprocess.list2cmdline(words[1:]))
    written: bytes = ElementTree.tostring(root, encoding='utf-16')
    return written


def install(segment: str, words: Sequence[str], environment: Mapping[str, str]) -> str:
    """Make the task and start it; return what is left to do, "" if nothing.

    A task has no environment of its own: what the worker needs has to be set for the user.
    """
    lacking = {name: value for name, value in environment.items() if of_the_user(name) != value}
    if lacking:
        needed = ' and '.join(f'setx {name} "{value}"' for name, value in lacking.items())
        return f'A task starts with the environment of the user, not of this console: type {needed}, and try again.'
    user = '\\'.join(filter(None, (os.environ.get('USERDOMAIN'), os.environ.get('USERNAME'))))
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / 'task.xml'
        file.write_bytes(task(segment, words, user))
        failed = _schtasks('/create', '/tn', task_name(segment), '/xml', str(file), '/f')
    failed = failed or _schtasks('/run', '/tn', task_name(segment))
    return f'Windows does not take the task: {failed}' if failed else ''


def of_the_user(name: str) -> str:
    """Return what a variable is in the environment that Windows gives the user's programs; "" if it is not set."""
    if sys.platform == 'win32':
        from bridge.cli.windows import variable_of_the_user

        return variable_of_the_user(name)
    return ''


def uninstall(segment: str) -> str:
    """Remove the task; return what is left to do, "" if nothing.

    Windows ends a task by killing it, so the worker is left to its user, who stops it in an orderly way.
    """
    failed = _schtasks('/delete', '/tn', task_name(segment), '/f')
    return f'Windows does not remove the task: {failed}' if failed else ''


def segments() -> list[str]:
    """Return the rigs that have a task."""
    try:
        words = ['schtasks', '/query', '/fo', 'csv', '/nh']
        done = subprocess.run(words, capture_output=True, text=True, errors='replace', check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    names = (line.split('","')[0].strip('"') for line in done.stdout.splitlines())
    return sorted({name.rpartition('\\')[2] for name in names if name.lower().startswith(f'\\{FOLDER}\\')})


def state(segment: str) -> str:
    """Return what Windows says of the task, in its own language."""
    try:
        words = ['schtasks', '/query', '/tn', task_name(segment), '/fo', 'csv', '/nh']
        done = subprocess.run(words, capture_output=True, text=True, errors='replace', check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as e:
        return f'Windows cannot be asked: {e}'
    said = done.stdout.strip().splitlines()[-1:] if done.returncode == 0 else []
    return said[0].split('","')[-1].strip('"') if said else 'Windows knows no such task'


def _schtasks(*words: str) -> str:
    """Tell the task scheduler something; return why it does not take it, "" if it does."""
    try:
        done = subprocess.run(
            ['schtasks', *words], capture_output=True, text=True, errors='replace', check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        return str(e)
    return ' '.join((done.stderr or done.stdout).split()) if done.returncode else ''
