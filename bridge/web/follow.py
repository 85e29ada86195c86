"""Keeps a board up to date, in a thread: reads what the worker tells, and the segment's file; presses the button.

The worker is asked SERVICES once when it is met, and again only if something was missed; whatever else there is to know
it tells by itself.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bridge import discretion
from bridge.errors import BridgeError, NoWorker
from bridge.numbers import CODE_NAMES, CODES, EVENTS, LOCAL
from bridge.web import told
from bridge.web.board import Board
from bridge.web.known import Moment
from bridge.web.metrics import metrics

if TYPE_CHECKING:
    from bridge.segment.client import Client

log = logging.getLogger(__name__)

WAIT = 0.1  # s for what the worker tells, at a time
LOOK = 0.5  # s between two looks at the segment's file
SHOW = 0.5  # s after which a state is shown though the worker told nothing: who gets none knows that it is old
SOON = 0.1  # s between two that are shown
PATIENCE = 1.0  # s for the worker's answer to SERVICES
AGAIN = 2.0  # s until it is asked anew, if it did not answer: it may only just begin
PRESSED = 12.0  # s that an EXPINTERRUPT may take


class _Stopped(Exception):
    """Ends the thread from within."""


class Follower:
    """Follows a rig.

    Parameters
    ----------
    segment : str
        Its name.
    show : callable
        Called with each state, as JSON text, in the thread of this.
    """

    def __init__(self, segment: str, show: Callable[[str], object]) -> None:
        self._segment, self._show = segment, show
        self._board = Board(segment)
        self._client: Client | None = None
        self._stopping = threading.Event()
        self._pressing = threading.Lock()
        self._looked = self._shown = self._asked = -AGAIN
        self._why = 'the page has not begun to follow the rig.'  # it is not attached
        self._known = False  # the worker has answered, and nothing was missed since
        self._news = True
        self._state, self._results = self._board.snapshot(_now()), Counter[tuple[str, str]]()
        self._thread = threading.Thread(target=self._run, name='follow', daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and give the slot back."""
        self._stopping.set()
        self._thread.join(2.0)

    def metrics(self, pages: int) -> bytes:
        """Return what Prometheus reads; from any thread."""
        return metrics(self._state, self._results, pages)

    def press(self) -> dict[str, Any]:
        """Send EXPINTERRUPT to all services, and wait for what they do; from any thread.

        Returns
        -------
        dict
            sent bool; code int; code_name, error str; services list, as in the state's commands.
        """
        client = self._client
        if client is None:
            return {**_NOT_PRESSED, 'error': f'Nothing was sent: {self._why}'}
        if not self._pressing.acquire(blocking=False):
            return {**_NOT_PRESSED, 'error': 'The button was pressed just now: one is on its way.'}
        try:
            body = client.call('EXPINTERRUPT', timeout=PRESSED)
        except BridgeError as error:
            sent = error.name not in ('IBLB_E_NOT_SENT', 'IBLB_E_NO_WORKER', 'IBLB_E_STALE', 'IBLB_E_CLOSED')
            done = told.done((error.response or {}).get('services'))
            return {'sent': sent, 'code': error.code, 'code_name': error.name, 'error': error.text, 'services': done}
        finally:
            self._pressing.release()
        code = body['code']
        name = CODE_NAMES.get(code, '') if code else ''
        return {
            'sent': True,
            'code': code,
            'code_name': name,
            'error': body['error'],
            'services': told.done(body['services']),
        }

    # In the thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._attached()
            except _Stopped:
                break
            except BridgeError as error:  # there is no segment, or it was replaced
                self._why = error.text
            except Exception:
                log.exception('the page does not follow the rig for a moment')
            self._client, self._known = None, False
            with suppress(_Stopped):
                self._turn()
            self._stopping.wait(WAIT)

    def _attached(self) -> None:
        """Take what is told, until the segment is gone."""
        from bridge.segment.served import COMMANDS
        from bridge.segment.tool import Tool

        with Tool(self._segment, 'page', timeout=0.0) as client:
            client.subscribe(*EVENTS, COMMANDS)
            self._client, expected = client, 0
            while True:
                try:
                    event = client.next_event(WAIT)
                except NoWorker:
                    event = None
                    self._stopping.wait(WAIT)
                if event is not None:
                    missed, expected = expected and event['sequence'] != expected, event['sequence'] + 1
                    self._take(discretion.entry(event), missed=bool(missed))
                self._ask(client)
                self._turn()

    def _ask(self, client: Client) -> None:
        """Ask the worker what it knows, if that is not known."""
        now = time.monotonic()
        if self._known or now - self._asked < AGAIN or not client.worker_state().alive:
            return
        self._asked = now
        with suppress(BridgeError):  # it is busy, or gone
            self._board.learn(client.call('SERVICES', timeout=PATIENCE), _now())
            self._known = self._news = True

    def _take(self, entry: Mapping[str, Any], *, missed: bool) -> None:
        if missed or entry['event'] == 'WORKER_RESTARTED':
            self._known, self._asked = False, -AGAIN
        self._news = self._news or not (entry.get('kind') == 'tick' or entry.get('message') in LOCAL)
        self._board.take(entry, _now())

    def _turn(self) -> None:
        """Look at the segment's file from time to time, and show what there is to be shown."""
        if self._stopping.is_set():
            raise _Stopped
        now = time.monotonic()
        if now - self._looked >= LOOK:
            self._looked = now
            self._look()
        if now - self._shown >= (SOON if self._news else SHOW):
            self._shown, self._news = now, False
            self._state, self._results = self._board.snapshot(_now()), self._board.results.copy()
            self._show(json.dumps(self._state))

    def _look(self) -> None:
        from bridge.segment import inspection

        report = None
        try:
            report = inspection.inspect(self._segment)
        except BridgeError as error:
            if error.code != CODES['IBLB_E_NO_SEGMENT']:
                log.debug('the segment cannot be looked at: %s', error)
        self._board.look(report, _now())
        if report is None or not report.worker_alive:
            self._known = False


_NOT_PRESSED = {'sent': False, 'code': 0, 'code_name': '', 'error': '', 'services': []}


def _now() -> Moment:
    return Moment(time.monotonic(), time.time())
