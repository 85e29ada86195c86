"""How services answer when they are asked, one by one, without a worker: for ``init`` and ``doctor``.

They are asked EXPINFO, as the worker asks them when it starts: that starts and ends nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

from bridge.cli.lines import as_text, milliseconds
from bridge.config import ServiceConfig
from bridge.numbers import STATUS_NAMES
from bridge.outcome import Outcome, Reason

PATIENCE = 3.0  # s, for echo and reply together
ADVICE = {
    Reason.ADDRESS: 'Correct its host name, or write its number, such as 192.168.0.8',
    Reason.NETWORK: "Is this computer on the rig's network",
    Reason.REFUSED: 'Its computer is there: start the service, or correct the port',
    Reason.NO_ECHO: 'Is its computer on, its service started, and does the firewall there let UDP in at this port',
    Reason.OTHER_ADDRESS: 'Write the address that it answers from',
    Reason.NO_REPLY: 'It has the question: is it busy, or a service that does not answer EXPINFO',
}


class Answer(NamedTuple):
    """What came of asking a service.

    Attributes
    ----------
    ok : bool
        It answered.
    said : str
        What it does and how long it took, or one sentence that says why it did not answer.
    advice : str
        What to do or to look for, as a sentence; "" if ok, or if nobody knows.
    """

    ok: bool
    said: str
    advice: str = ''


def ask(services: Mapping[str, ServiceConfig], patience: float = PATIENCE) -> dict[str, Answer]:
    """Ask all services at once and wait for their answers.

    Parameters
    ----------
    services : mapping of str to ServiceConfig
        Whom to ask, by name.
    patience : float
        How long one may take, s.
    """
    uris = {name: one.uri for name, one in services.items() if not one.unsupported}
    outcomes = {name: Outcome(name, reason=Reason.UNSUPPORTED, error=one.unsupported) for name, one in services.items()}
    if uris:
        outcomes |= _outcomes(uris, patience)
    return {name: answer(outcomes[name]) for name in services}


def answer(outcome: Outcome) -> Answer:
    """Return what an outcome of EXPINFO means for people."""
    if outcome.ok:
        status = STATUS_NAMES.get(outcome.status, 'answered')
        return Answer(True, f'{status}, {milliseconds(outcome.sent, outcome.answered)} ms')
    advice = ADVICE.get(outcome.reason, '')
    mark = '?' if advice.startswith(('Is ', 'It has')) else '.'
    return Answer(False, as_text(outcome.error).rstrip('.'), advice and advice + mark)


def line(service: ServiceConfig, answer: Answer) -> str:
    """Return a line about a service that was asked."""
    said = answer.said if answer.said.startswith(service.uri) else f'{service.uri}: {answer.said}'
    end = '' if answer.ok or said[-1:] in '.?' else '.'
    return ' '.join(filter(None, (f'{service.name}: {said}{end}', answer.advice)))


def _outcomes(uris: dict[str, str], patience: float) -> dict[str, Outcome]:
    from bridge.auxiliaries import Auxiliaries  # loads iblutil, which takes a second

    class Quiet(Auxiliaries):
        logger = logging.getLogger(f'{__name__}.quiet')  # what is found is returned

    Quiet.logger.disabled = True
    auxiliaries = Quiet(uris)
    try:
        return auxiliaries.submit('EXPINFO', 'CONNECTED', timeout=patience).result(2 * patience + 5)
    finally:
        auxiliaries.close()
