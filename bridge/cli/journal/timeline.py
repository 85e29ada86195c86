"""A journal as a picture: what is to be drawn, and the page that draws it. Functions of values.

One lane per service. Each command is a bar from sent over echoed to answered in the lane of each service, and one from
sent to finished in the lane of the programs. Failures and events are marked by shape as well as by colour.

The page is one file that needs no network: `timeline.html` with the picture put in as JSON. What stands in a journal
may come from anybody, so it is text there, never markup.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bridge.cli import lines
from bridge.cli.journal.running import runs, words
from bridge.cli.journal.summary import HEAD, Row
from bridge.numbers import CODE_NAMES

PROGRAMS = 'programs'  # the lane of what programs asked, and of what is about no service
_JUMP = 0.05  # s by which clock and wall may drift apart before a new start of the clock is assumed
_ANSWERS = ('outcome', 'notification')


@dataclass
class Part:
    """What one service did with a command; the stamps are None for never."""

    lane: int
    ok: bool
    state: str
    said: str
    sent: float | None
    echoed: float | None
    answered: float | None


@dataclass
class Bar:
    """A command: from when it was sent until it was finished, and what each service did."""

    key: str
    message: str
    client: str
    sent: float
    lane: int = 0
    finished: float | None = None
    args: str = ''
    said: str = 'no answer is written'
    mark: str = '~'
    parts: list[Part] = field(default_factory=list)


@dataclass
class Sign:
    """What happened at one moment: an event, a start or stop of the worker, a gap."""

    lane: int
    kind: str
    mark: str
    said: str
    at: float


@dataclass
class Running:
    """From when until when a service was RUNNING, by its own word; None if it has not ended."""

    lane: int
    begin: float
    end: float | None


@dataclass
class Picture:
    """All that is drawn.

    Attributes
    ----------
    zero : float
        s since 1970 of the first entry: all other times are s since then.
    offset : int
        s by which this computer's time is ahead of UTC then.
    lanes : list of str
        The programs' lane, then the services in configured order.
    """

    zero: float = 0.0
    offset: int = 0
    lanes: list[str] = field(default_factory=lambda: [PROGRAMS])
    bars: list[Bar] = field(default_factory=list)
    signs: list[Sign] = field(default_factory=list)
    running: list[Running] = field(default_factory=list)


class _Clock:
    """Places stamps of the segment's clock, which begins anew with the computer, on the wall's time."""

    def __init__(self) -> None:
        self.zero = 0.0
        self.utc_offset = 0
        self._ahead: float | None = None  # of the segment's clock, s
        self._moment: float | None = None

    def see(self, entry: dict[str, Any]) -> float:
        """Take in what an entry says of both clocks; return when it was."""
        when, stamp = lines.moment(entry), _seconds(entry.get('time'))
        if when is not None:
            moment = when.timestamp()
            if self._moment is None:
                offset = when.utcoffset()
                self.zero, self.utc_offset = moment, int(offset.total_seconds()) if offset is not None else 0
            if stamp is not None:
                if self._ahead is None or abs(moment - stamp - self._ahead) > _JUMP:
                    self._ahead = moment - stamp
                moment = stamp + self._ahead
            self._moment = moment
        return round((self._moment or 0.0) - self.zero, 6)

    def place(self, stamp: Any) -> float | None:
        """Return when a stamp was (ns, 0 for never)."""
        seconds = _seconds(stamp)
        return None if seconds is None or self._ahead is None else round(seconds + self._ahead - self.zero, 6)


def picture(entries: Iterable[dict[str, Any]]) -> Picture:
    """Return what is to be drawn of a journal's entries.

    Parameters
    ----------
    entries : iterable of dict
        As `bridge.journal.Reading` yields them; of any content, for the file may have been edited.
    """
    drawn, clock, bars, said = Picture(), _Clock(), dict[str, Bar](), list[tuple[int, float, int]]()
    for number, entry in enumerate(entries):
        now, kind = clock.see(entry), entry.get('kind')
        said += [(_lane(drawn, entry, name), at, status) for name, at, status in words(entry, now, clock.place)]
        if kind in ('asked', 'replied'):
            _served(drawn, bars, entry, now)
            continue
        if kind not in ('command', *_ANSWERS):
            drawn.signs.append(_sign(drawn, entry, now))
            continue
        key = lines.as_text(entry.get('command_id')) or f'line {number}'
        if key not in bars:
            sent = clock.place(entry.get('sent'))
            message, client = (lines.as_text(entry.get(name)) for name in ('message', 'client'))
            bars[key] = Bar(key, message, client, now if sent is None else sent, _lane(drawn, entry, ''))
        if kind == 'command':
            bars[key].args = lines.as_json(entry['args']) if entry.get('args') else ''
        else:
            _finish(drawn, bars[key], entry, clock, now)
    drawn.zero, drawn.offset, drawn.bars = clock.zero, clock.utc_offset, list(bars.values())
    drawn.running = [Running(*run) for run in runs(said)]
    return drawn


def _served(drawn: Picture, bars: dict[str, Bar], entry: dict[str, Any], now: float) -> None:
    """Draw what a master asked of a program, and what it was told, in the lane of the listener."""
    key, message, master = (lines.as_text(entry.get(name)) for name in ('command_id', 'message', 'master'))
    bar = bars.setdefault(key, Bar(key, message, master, now, _lane(drawn, entry, '')))
    lane = _lane(drawn, entry, lines.as_text(entry.get('service')))
    if entry.get('kind') == 'asked':
        bar.args = lines.as_json(entry['args']) if entry.get('args') else ''
        return
    ok, error = entry.get('ok') is True, lines.as_text(entry.get('error'))
    said = error or (lines.as_json(entry['data']) if entry.get('data') else '')
    bar.finished, bar.mark, bar.said = now, ' ' if ok else '!', error or 'done'
    bar.parts = [Part(lane, ok, 'answered' if ok else 'failed', said, bar.sent, bar.sent, now)]


def _sign(drawn: Picture, entry: dict[str, Any], now: float) -> Sign:
    kind, service = lines.as_text(entry.get('kind')), ''
    if kind in ('start', 'reload'):
        for one in _dicts(entry.get('services')):
            _lane(drawn, entry, lines.as_text(one.get('name')))
    if kind == 'event':
        kind, service = lines.as_text(entry.get('event')), lines.as_text(entry.get('service'))
    said = ' '.join(filter(None, (lines.as_text(entry.get('client')), lines.details(entry))))
    return Sign(_lane(drawn, entry, service), kind, lines.mark(entry), said, now)


def _lane(drawn: Picture, entry: dict[str, Any], service: str) -> int:
    """Return the lane of a service, the programs' for none; of several rigs each has lanes of its own."""
    rig = lines.as_text(entry.get('rig'))
    if rig and drawn.lanes == [PROGRAMS]:
        drawn.lanes[0] = f'{rig}/{PROGRAMS}'
    if rig and f'{rig}/{PROGRAMS}' not in drawn.lanes:
        drawn.lanes.append(f'{rig}/{PROGRAMS}')  # above its services
    if not service and (not rig or drawn.lanes[0] == f'{rig}/{PROGRAMS}'):
        return 0
    service = f'{rig}/{service or PROGRAMS}' if rig else service
    if service not in drawn.lanes[1:]:
        drawn.lanes.append(service)
    return drawn.lanes.index(service, 1)


def _finish(drawn: Picture, bar: Bar, entry: dict[str, Any], clock: _Clock, now: float) -> None:
    finished, code = clock.place(entry.get('finished')), entry.get('code')
    bar.mark, bar.finished = lines.mark(entry), now if finished is None else finished
    name = CODE_NAMES.get(code, '') if isinstance(code, int) and code else ''
    bar.said = ': '.join(filter(None, (name, lines.as_text(entry.get('error'))))) or 'done'
    for one in _dicts(entry.get('services')):
        data = lines.as_json(one['data']) if one.get('data') else ''
        bar.parts.append(
            Part(
                _lane(drawn, entry, lines.as_text(one.get('name')) or '?'),
                one.get('ok') is True,
                lines.as_text(one.get('state')).replace('_', ' '),
                lines.as_text(one.get('error')) or data,
                *(clock.place(one.get(stamp)) for stamp in ('sent', 'echoed', 'answered')),
            )
        )


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _seconds(stamp: Any) -> float | None:
    """Return a stamp in s; None if it is none."""
    fits = isinstance(stamp, int) and not isinstance(stamp, bool) and 0 < stamp < 2**63
    return stamp / 1e9 if fits else None


def page(drawn: Picture, title: str, rows: Sequence[Row]) -> str:
    """Return the page, in ASCII.

    Parameters
    ----------
    drawn : Picture
        What is to be drawn.
    title : str
        What it is of, such as the journal's name.
    rows : sequence of Row
        The summary, for the table below.
    """
    packed = json.dumps(asdict(drawn), separators=(',', ':'))
    for sign in '<>&':  # inside a string all of them, and the end of a script element would end the picture
        packed = packed.replace(sign, f'\\u{ord(sign):04x}')
    places = {'TITLE': html.escape(title), 'HEAD': _row('th', HEAD), 'PICTURE': packed}
    places['SUMMARY'] = '\n'.join(_row('td', row.cells()) for row in rows)
    template = Path(__file__).with_name('timeline.html').read_text('utf-8')
    whole = re.sub('<!--([A-Z]+)-->', lambda place: places[place[1]], template)
    return whole.encode('ascii', 'xmlcharrefreplace').decode()


def _row(cell: str, texts: Iterable[str]) -> str:
    return '<tr>' + ''.join(f'<{cell}>{html.escape(text)}</{cell}>' for text in texts) + '</tr>'
