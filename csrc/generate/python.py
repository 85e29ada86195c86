"""Python: all numbers and words, as bridge/numbers.py, which can be read without the library.

Laid out as ruff formats it.
"""

from __future__ import annotations

from collections.abc import Iterable

from interface import LOCAL, Interface

FILE = """\
\"\"\"The numbers and words of the interface, by name. Written by csrc/generate; changes belong there.

They come from codes.def and iblbridge.h. Nothing is loaded here, so this can be imported where the library is not.
\"\"\"

from __future__ import annotations

%(codes)s
\"\"\"Every status by its name.\"\"\"

CODE_NAMES: dict[int, str] = {number: name for name, number in CODES.items()}

%(messages)s
\"\"\"What a command says: the numbers of iblutil's ExpMessage, and the worker's own.\"\"\"

MESSAGE_NAMES: dict[int, str] = {number: name for name, number in MESSAGES.items()}

%(local)s
\"\"\"Messages that the worker answers itself.\"\"\"

%(events)s
\"\"\"What can be subscribed to: messages that services send by themselves, and events of the worker.\"\"\"

%(statuses)s
\"\"\"What a service says it does; an entry of a response that has none says -1.\"\"\"

STATUS_NAMES: dict[int, str] = {number: name for name, number in STATUSES.items()}

%(reasons)s
\"\"\"Why a service did not do what was asked, as its entry of a response says it to programs:

%(reason_meanings)s
\"\"\"

%(exits)s
\"\"\"Exit statuses of the command-line tools by name.\"\"\"

%(exit_meanings)s

%(exit_statuses)s
\"\"\"Exit status of the command-line tools by status of the interface.\"\"\"
"""


def table(name: str, types: str, pairs: Iterable[tuple[str, object]]) -> str:
    """Return a dict with a line per key, of which the text is given as Python writes it."""
    lines = '\n'.join(f'    {key}: {value},' for key, value in pairs)
    return f'{name}: dict[{types}] = {{\n{lines}\n}}'


def numbers(interface: Interface) -> str:
    """Return numbers.py."""
    exits = {status.name: status.number for status in interface.exits}
    messages = [(repr(_short(c.name)), c.number) for c in interface.messages]
    local = [repr(_short(name)) for name in LOCAL]
    own = [(repr(_short(c.name)), c.number) for c in interface.events]
    statuses = [(repr(c.name.removeprefix('IBLB_STATUS_')), c.number) for c in interface.statuses]
    words = '\n'.join(f'    {reason.word!r},' for reason in interface.reasons)
    width = max(len(reason.word) for reason in interface.reasons)
    return FILE % {
        'codes': table('CODES', 'str, int', ((repr(c.name), c.number) for c in interface.codes)),
        'messages': table('MESSAGES', 'str, int', messages),
        'local': f'LOCAL: tuple[str, ...] = ({", ".join(local)})',
        'events': table('EVENTS', 'str, int', [pair for pair in messages if pair[0] not in local] + own),
        'statuses': table('STATUSES', 'str, int', statuses),
        'reasons': f'REASONS: tuple[str, ...] = (\n{words}\n)',
        'reason_meanings': '\n'.join(f'    {r.word:{width}}  {r.meaning}' for r in interface.reasons),
        'exits': table('EXITS', 'str, int', ((repr(e.name), e.number) for e in interface.exits)),
        'exit_meanings': table(
            'EXIT_MEANINGS', 'int, str', ((str(e.number), repr(e.meaning)) for e in interface.exits)
        ),
        'exit_statuses': table('EXIT_STATUSES', 'int, int', ((str(c.number), exits[c.exit]) for c in interface.codes)),
    }


def _short(name: str) -> str:
    return name.removeprefix('IBLB_')


FILES = {'bridge/numbers.py': numbers}
