"""Whole sessions back to back, with the settings as shipped, at a service that is held up after its answers.

A camera session that has answered does not listen again at once: it echoes what comes and never hears it. How long
depends on its computer. Here that is up to 30 ms after every seventh answer, and nothing may be lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from iblutil.io import net
from sessions import Session

from bridge import Auxiliaries

HELD_UP = ('--held-up-loop', 0, 0.030, 0.15)
PATIENCE = 2.0  # s, for the answer to a command; not a setting, only so that many losses do not take for ever
ENOUGH = 20  # losses
LOADS = [
    pytest.param(0, id='quiet'),
    pytest.param(2, id='busy', marks=pytest.mark.not_wine('its server is as busy, and all take turns of seconds')),
]
ORDER = ('EXPINFO', 'EXPINIT', 'EXPSTART', 'EXPEND')
REFRESH_RATE = 0.2  # s between two looks of iblrig's class at its queue


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep the computer busy with something else."""
    with contextlib.ExitStack() as stack:
        for _ in range(processes):
            process = stack.enter_context(subprocess.Popen([sys.executable, '-c', 'while True: pass']))
            stack.callback(process.kill)
        yield


def commands(number: int) -> list[tuple[Any, ...]]:
    """Return what a task says in one session."""
    ref = f'2026-01-01_{number}_subject'
    info = {'main_sync': True, 'exp_ref': ref}
    return [('EXPINFO', 'CONNECTED', info), ('EXPINIT', {'exp_ref': ref}), ('EXPSTART', ref), ('EXPEND',)]


def run_ours(aux: Auxiliaries, sessions: int) -> tuple[int, list[str]]:
    """Run sessions, a command that failed once more; return how many commands there were and what failed."""
    asked, failures = 0, []
    for number in range(1, sessions + 1):
        for command in commands(number):
            for _ in range(3):
                asked += 1
                outcome = aux.submit(*command, timeout=PATIENCE).result(2 * PATIENCE)['cameras']
                if outcome.ok:
                    break
                failures.append(f'{command[0]} of session {number}: {outcome.state}, {outcome.error}')
        if len(failures) >= ENOUGH:
            break
    return asked, failures


def run_stock(uri: str, sessions: int) -> float:
    """Run the same with plain iblutil, in the rhythm of ``iblrig.net.Auxiliaries``; return the seconds it takes."""

    async def run() -> float:
        com = await net.app.EchoProtocol.client(uri, 'cameras', log=logging.Logger('quiet', logging.CRITICAL))
        services = net.app.Services([com])
        start = time.monotonic()
        for number in range(1, sessions + 1):
            info, init, (_, ref), _ = commands(number)
            for call in (
                lambda info=info: services.info(net.base.ExpStatus.CONNECTED, info[2]),
                lambda init=init: services.init(init[1]),
                lambda ref=ref: services.start(ref),
                services.stop,
            ):
                await asyncio.sleep(REFRESH_RATE)
                assert await call()
        seconds = time.monotonic() - start
        services.close()
        return seconds

    loop = asyncio.SelectorEventLoop()
    try:
        return loop.run_until_complete(run())
    finally:
        loop.close()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize('load', LOADS)
@pytest.mark.slow
@pytest.mark.parametrize('sessions', [25, pytest.param(1000, marks=pytest.mark.long)])
def test_a_session_with_default_settings_loses_nothing_at_a_loop_that_is_held_up(sessions, load):
    with (
        Session('one-loop', *HELD_UP) as session,
        busy(load),
        contextlib.closing(Auxiliaries({'cameras': session.uri})) as aux,
    ):
        start = time.monotonic()
        asked, failures = run_ours(aux, sessions)
        seconds = time.monotonic() - start
        report = session.report()
    print(f'\n{sessions} sessions beside {load} busy processes: {seconds / sessions * 1e3:.0f} ms a session, ', end='')
    print(f'{len(failures)} of {asked} commands lost')
    assert not failures, f'{len(failures)} of {asked}:\n' + '\n'.join(failures)
    assert [name for name, *_ in report['heard']] == [*ORDER] * sessions
    assert report['connected'] and not report['errors']


@pytest.mark.timeout(600)
@pytest.mark.parametrize('load', LOADS)
@pytest.mark.slow
@pytest.mark.parametrize('sessions', [3, pytest.param(100, marks=pytest.mark.long)])
def test_a_session_by_plain_iblutil_in_the_rhythm_of_iblrig_for_comparison(sessions, load):
    with Session('one-loop', *HELD_UP) as session, busy(load):
        seconds = run_stock(session.uri, sessions)
        heard = session.heard
    print(f'\n{sessions} stock sessions beside {load} busy processes: {seconds / sessions * 1e3:.0f} ms a session')
    assert heard == [*ORDER] * sessions
