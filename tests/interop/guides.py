"""The guides of the kits, run as a new user runs them, and what the examples print."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]


def require(*programs: str) -> None:
    """Skip the test if a program is missing; in CI, fail."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        reason = f'not installed: {", ".join(missing)} (bash .ci/packages installs it)'
        (pytest.fail if os.environ.get('CI') else pytest.skip)(reason)


SERVING = '## Your program as a service\n'


def commands(place: Path) -> list[str]:
    """Return what a new user types: the lines of the ``sh`` blocks of a guide.

    All but the last build; the last runs the example on the segment rig0.
    """
    return _typed((place / 'README.md').read_text(encoding='utf-8').partition(SERVING)[0])


def serving_commands(place: Path) -> list[str]:
    """Return the same of the guide's section about serving, whose last line runs the camera on the segment rig0."""
    return _typed((place / 'README.md').read_text(encoding='utf-8').partition(SERVING)[2])


def _typed(text: str) -> list[str]:
    blocks = re.findall(r'^```sh\n(.*?)^```', text, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def environment() -> dict[str, str]:
    """Return the environment in which a new user types: ``iblbridge`` is found, nothing else of ours is."""
    return {**os.environ, 'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}', 'LC_ALL': 'C.UTF-8'}


def run(command: str | Sequence[object], place: Path, timeout: float = 90.0) -> subprocess.CompletedProcess[str]:
    """Run a command, or a line for the shell, in a folder."""
    words: Any = command if isinstance(command, str) else [str(word) for word in command]
    return subprocess.run(
        words,
        shell=isinstance(command, str),
        cwd=place,
        env=environment(),
        text=True,
        capture_output=True,
        check=False,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )


class Step(NamedTuple):
    """What an example said of one command."""

    name: str
    code: int
    sentence: str
    services: dict[str, str]

    @property
    def done(self) -> bool:
        """Whether it was carried out, and nothing is to be warned of."""
        return self.code == 0


class Said(NamedTuple):
    """What an example said in all."""

    steps: list[Step]
    events: list[str]
    cancelled: list[str]


def _services(lines: Sequence[str]) -> dict[str, str]:
    """Return what was said of each service: ``name: words`` lines, or the response as JSON."""
    found = {}
    for line in lines:
        if line.startswith('{'):
            for entry in json.loads(line)['services']:
                data = entry['data']
                words = f'{entry["state"]}, {entry["error"]}' if entry['error'] else entry['state']
                if 'info' in data:
                    words = f'status {data["status"]}, {(data["info"] or {}).get("exp_ref", "no experiment")}'
                found[entry['name']] = words
        else:
            parts = re.match(r'(.+?): ((?:not_sent|unreachable|echoed|answered|status).*)', line)
            assert parts, f'not as agreed: {line!r}'
            found[parts[1]] = parts[2]
    return found


def read(text: str) -> Said:
    """Read what an example printed.

    ``EXPINIT: done``, ``EXPEND: warning (5005): sentence`` or ``EXPSTART: failed (-8070): sentence``, each followed by
    two blanks and ``name: state`` or ``name: state, error`` per service (``name: status 20, reference`` after EXPINFO),
    or two blanks and the response as JSON; ``EXPSTATUS: cancelled``; ``event EXPINTERRUPT from ephys``, or ``event``
    and its JSON.
    """
    said = Said([], [], [])
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if head := re.fullmatch(r'([A-Z]+): (?:done|(?:failed \((?=-)|warning \((?!-))(-?\d+)\): (.*))', line):
            after = []
            for below in lines[i + 1 :]:
                if not below.startswith('  '):
                    break
                after.append(below.strip())
            said.steps.append(Step(head[1], int(head[2] or 0), head[3] or '', _services(after)))
        elif head := re.fullmatch(r'([A-Z]+): cancelled', line):
            said.cancelled.append(head[1])
        elif line.startswith('event {'):
            event = json.loads(line.removeprefix('event '))
            said.events.append(f'{event["event"]} from {event["service"]}')
        elif line.startswith('event '):
            said.events.append(line.removeprefix('event '))
        else:
            assert line.startswith('  ') or not line, f'not as agreed: {line!r}'
    return said
