"""How services answer when they are asked, one by one, without a worker: for ``init`` and ``doctor``.

They are asked EXPINFO, as the worker asks them when it starts: that starts and ends nothing. What comes of it is told
step by step: what its name stands for, its echo, its reply, and its clock, if it tells the time.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from bridge.cli.doctor import clocks
from bridge.cli.lines import as_text, elapsed_ms
from bridge.config import ServiceConfig
from bridge.numbers import STATUS_NAMES
from bridge.outcome import Outcome, Reason

PATIENCE = 3.0  # s, for echo and reply together
ADVICE = {
    Reason.ADDRESS: 'Correct its host name, or write its number, such as 192.168.0.8',
    Reason.NETWORK: "Is this computer on the rig's network",
    Reason.REFUSED: 'Its computer is there: start the service, or correct the port',
    Reason.NO_ECHO: 'Is its computer on, and does the firewall there let UDP in at this port',
    Reason.OTHER_ADDRESS: 'Write the address that it answers from',
    Reason.NO_REPLY: 'It has the question: is it busy, or a service that does not answer EXPINFO',
}
_SILENT = (Reason.NO_ECHO,)  # as a firewall has it that drops what comes


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
    addresses : tuple of str
        What its host name stands for; empty if it is an address itself, or stands for nothing.
    echo_ms, reply_ms : float or None
        From the question to its echo, and to its reply; None if there was none.
    clock_ahead_s : float or None
        By how much its clock is ahead of this computer's; None if it does not tell.
    hint : str
        What to type at its computer if its firewall is the reason; "" if it cannot be.
    """

    ok: bool
    said: str
    advice: str = ''
    addresses: tuple[str, ...] = ()
    echo_ms: float | None = None
    reply_ms: float | None = None
    clock_ahead_s: float | None = None
    hint: str = ''


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
    now = time.time() - time.perf_counter_ns() / 1e9
    known = addresses_of(uris)
    hints = {
        name: firewall_hint(urlsplit(uri).port or 0) for name, uri in uris.items() if outcomes[name].reason in _SILENT
    }
    return {
        name: answer(outcomes[name], now)._replace(addresses=known.get(name, ()), hint=hints.get(name, ''))
        for name in services
    }


def answer(outcome: Outcome, zero: float = 0.0) -> Answer:
    """Return what an outcome of EXPINFO means for people.

    Parameters
    ----------
    outcome : Outcome
        What the service did.
    zero : float
        When the clock of its stamps was 0, s since 1970.
    """
    echo, reply = (elapsed_ms(outcome.sent, stamp) for stamp in (outcome.echoed, outcome.answered))
    if outcome.ok:
        said = f'{STATUS_NAMES.get(outcome.status, "answered")}, {_ms(reply)} ms'
        said += f' (echo {_ms(echo)} ms)' if echo is not None else ''
        offset, advice = None, ''
        if (theirs := clocks.told(outcome.reply)) is not None:
            offset, doubt = clocks.ahead(theirs, zero + outcome.sent / 1e9, zero + outcome.answered / 1e9)
            clock = clocks.sentence(offset, doubt)
            said += f'; {clock}' if clock else '; its clock agrees with ours'
            if abs(offset) - doubt > clocks.TOLERATED:
                advice = 'Have both computers set their clocks by the network (NTP).'
        return Answer(True, said, advice, (), echo, reply, offset)
    advice = ADVICE.get(outcome.reason, '')
    mark = '?' if advice.startswith(('Is ', 'It has')) else '.'
    return Answer(False, as_text(outcome.error).rstrip('.'), advice and advice + mark, (), echo, reply)


def line(service: ServiceConfig, answer: Answer) -> str:
    """Return a line about a service that was asked."""
    named = f'{service.uri} ({", ".join(answer.addresses)})' if answer.addresses else service.uri
    is_said = service.uri in answer.said and not answer.addresses
    said = answer.said if is_said else f'{named}: {answer.said}'
    end = '' if (answer.ok and not answer.advice) or said[-1:] in '.?' else '.'
    return ' '.join(filter(None, (f'{service.name}: {said}{end}', answer.advice)))


def addresses_of(uris: Mapping[str, str], patience: float = PATIENCE) -> dict[str, tuple[str, ...]]:
    """Return what the host names of some services stand for; without those that are addresses, or stand for nothing.

    Parameters
    ----------
    uris : mapping of str to str
        By name of the service.
    patience : float
        How long to wait for all of them, s.
    """
    found: dict[str, tuple[str, ...]] = {}

    def look(name: str, host: str) -> None:
        try:
            rows = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            return
        if numbers := tuple(sorted({str(row[4][0]) for row in rows} - {host})):
            found[name] = numbers

    threads = [
        threading.Thread(target=look, args=(name, urlsplit(uri).hostname or ''), daemon=True)
        for name, uri in uris.items()
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return dict(found)


def firewall_hint(port: int) -> str:
    """Return what to type at a service's computer so that its firewall lets commands in."""
    return (
        f'If its firewall keeps UDP port {port} shut: on Windows, as administrator, netsh advfirewall firewall add '
        f'rule name=rig dir=in action=allow protocol=UDP localport={port}; on Linux, sudo ufw allow {port}/udp, or '
        f'sudo firewall-cmd --add-port={port}/udp; on macOS, System Settings, Network, Firewall.'
    )


def _ms(value: float | None) -> str:
    return '?' if value is None else f'{value:.1f}'


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
