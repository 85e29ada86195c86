"""What is noted of a listener: what masters asked and were told, for the journal; what failed, for the log."""

from __future__ import annotations

import logging
from typing import Any

from bridge import discretion
from bridge.listen import rules
from bridge.listen.asked import Note
from bridge.services.repeats import Repeats
from bridge.worker.behind import Behind
from bridge.worker.housekeeping import Housekeeping

log = logging.getLogger(__name__)


class ListenerNotes:
    """Writes down what a desk notes.

    Parameters
    ----------
    key : str
        What a command of this listener is called in journals, before its number.
    behind : Behind
        The program behind the listener.
    house : Housekeeping
        Writes it into the journal, and tells those who watch.
    """

    def __init__(self, key: str, behind: Behind, house: Housekeeping) -> None:
        self._key, self._behind, self._house = key, behind, house
        self._repeats = Repeats(behind.name, log)

    def note(self, note: Note) -> None:
        """Write down what a master asked, what it was told, or what failed."""
        name, message = self._behind.name, rules.event_name(note.event)
        master = f'{note.address[0]}:{note.address[1]}'
        if note.error:
            text = f'{name}: {message} of {master}: {discretion.error(message, note.error)}'
            self._repeats.tell(logging.WARNING, f'failed {message}', text)
        elif note.kind == 'asked':
            log.debug('%s: %s of %s', name, message, master)
        if note.kind == 'trouble' or not self._house.is_noted():
            return
        entry: dict[str, Any] = {
            'command_id': f'{self._key}-{note.number}',
            'message': message,
            'service': name,
            'client': self._behind.client,
            'master': master,
        }
        if note.kind == 'asked':
            self._house.note('asked', entry | {'args': note.data})
        else:
            self._house.note('replied', entry | {'ok': not note.error, 'error': note.error, 'data': note.data})
