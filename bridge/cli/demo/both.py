"""``iblbridge demo --both``: the other direction: a stock iblutil master commands a C program that is the camera.

The worker of the demo listens in the camera's place; ``iblb camera`` is the program behind it. What is printed of the
outcome is what the master was told. `judge` is a function of values and decides about the verdict.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.cli.lines import as_json
from bridge.numbers import STATUS_NAMES

if TYPE_CHECKING:
    from rich.console import Console

    from bridge.cli.demo.children import Halt
    from bridge.services.stock import Told

LISTENER = 'video'
WORKER_OPTIONS = ('--listen', f'{LISTENER}=udp://127.0.0.1:0')
EXPECTED = {
    'EXPINFO': 'CONNECTED',
    'EXPINIT': 'INITIALIZED',
    'EXPSTART': 'RUNNING',
    'EXPSTATUS': 'RUNNING',
    'EXPEND': 'STOPPED',
    'EXPCLEANUP': 'CONNECTED',
}
RECORDS_FOR = 0.5  # s, so that there are frames
PATIENCE = 10.0  # s: until the camera serves
WIDTHS = (12, 12, 11)


def judge(told: Sequence[tuple[str, Told]], asked: Sequence[str]) -> list[str]:
    """Return what is not as it should be, one sentence each; nothing if all is well.

    Parameters
    ----------
    told : sequence of (str, Told)
        Each command, and what its master was told.
    asked : sequence of str
        The messages that the C program was asked, in order.
    """
    wrong = []
    if [message for message, _ in told] != list(EXPECTED):
        wrong.append(f'not all commands were given, only {", ".join(message for message, _ in told) or "none"}.')
    for message, answer in told:
        status = STATUS_NAMES.get(answer.status, 'nothing')
        if answer.error or status != EXPECTED.get(message):
            what = answer.error or f'it is said to be {status}'
            wrong.append(f'{message}: the master was told {what}, instead of {EXPECTED.get(message)}.')
    own = [message for message in EXPECTED if message not in ('EXPINFO', 'EXPSTATUS')]  # those the worker answers
    if list(asked) != own:
        wrong.append(f'the C program was asked {", ".join(asked) or "nothing"}, instead of {", ".join(own)}.')
    return wrong


@contextmanager
def camera(tool: Path, segment: str, halt: Halt) -> Iterator[list[dict[str, Any]]]:
    """Have a C program serve the listener; yields what it says it was asked, complete after the block.

    Raises
    ------
    DemoError
        It does not serve within `PATIENCE`.
    """
    from bridge.cli.demo.children import TICK, DemoError
    from bridge.segment import inspection

    asked: list[dict[str, Any]] = []
    words = [str(tool), 'camera', segment, LISTENER]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding='utf-8'
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not any(one.client for one in inspection.inspect(segment).listeners):
            halt.check()
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                said = ' '.join(process.communicate())
                raise DemoError(f'{" ".join(words)} does not serve: {" ".join(said.split()) or "it says nothing"}')
            time.sleep(TICK)
        yield asked
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        process.kill()
        out, _ = process.communicate()
        asked += [json.loads(line) for line in out.splitlines() if line.startswith('{')]


def show_both(
    console: Console, tool: Path, segment: str, plan: Sequence[tuple[str, list[Any]]], halt: Halt
) -> list[str]:
    """Run the experiment the other way round, print it, and return what was not as it should be."""
    from bridge.segment import inspection
    from bridge.services.stock import StockMaster

    console.print('\nThe other way round: a master commands a C program, which is the camera.\n', style='bold')
    told: list[tuple[str, Told]] = []
    with camera(tool, segment, halt) as asked:
        (listener,) = inspection.inspect(segment).listeners
        for what, where in (
            ('master', 'stock iblutil, as iblrig has it; it knows an address and nothing of iblbridge'),
            ('worker', f'listens at {listener.uri} as {LISTENER}, echoes at once, asks the program'),
            ('C program', f'{tool} camera, pid {listener.pid}; it takes each command and answers'),
        ):
            console.print(f'  {what:<{WIDTHS[0]}}{where}')
        console.print()
        _row(console, ('command', 'camera', 'in all'), 'what the master was told', 'bold')
        console.print('  ' + '-' * (sum(WIDTHS) + 28), style='dim')
        master = StockMaster(listener.uri, LISTENER)
        try:
            for message, arguments in plan:
                halt.check()
                if message == 'EXPEND':
                    time.sleep(RECORDS_FOR)
                told.append((message, answer := master.command(message, *arguments)))
                said = answer.error or as_json(answer.data)
                status = STATUS_NAMES.get(answer.status, 'FAILED')
                style = 'red' if answer.error else 'green'
                _row(console, (message, status, f'{answer.took * 1000:>6.1f} ms'), said, style)
        finally:
            master.close()
    return judge(told, [one['message'] for one in asked])


def _row(console: Console, cells: tuple[str, str, str], said: str, style: str) -> None:
    columns = ''.join(f'{cell:<{width}}' for cell, width in zip(cells, WIDTHS, strict=True))
    console.print(f'  {columns}{said}', style=style)
