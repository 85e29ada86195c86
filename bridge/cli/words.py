"""How a command line is read: what a word that is not known says, arguments as words or JSON, times with their units.

The C tool ``iblb`` reads arguments and times by the same rules (``csrc/tools/words.c``):

- Of a command's arguments each is JSON, or plain words if it is not. What begins as JSON's objects, arrays, texts do,
  and is not JSON, is refused: sent as a text it would start an experiment of that name.
- ``@FILE`` stands for the text of a file and ``-``, or ``@-``, for that of standard input, so that a token is in no
  list of processes and in no shell's history.
- An array that is the only argument is all of the arguments, as in the C interface; ``[[...]]`` is one array.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO, NoReturn

from bridge.nearest import did_you_mean
from bridge.numbers import EXITS

BEGINNINGS = ('{', '[', '"')
UNITS = {'ms': 0.001, 's': 1.0, 'min': 60.0, 'h': 3600.0}
COLUMNS = 80  # of help, at most
_MOST_BYTES = 1 << 20  # of a file with arguments; a datagram holds 64 KiB
_LONGEST = 2**31 / 1000  # s; what an int of ms holds
_NEGATIVE = re.compile(r'-[0-9.].*|-')  # no option begins so; - is standard input
_SHOWN = 60  # characters of what was typed


class Help(argparse.HelpFormatter):
    """Help of at most `COLUMNS` columns, in which a paragraph that is indented stays as it is."""

    def __init__(self, prog: str, **options: Any) -> None:
        options['width'] = min(shutil.get_terminal_size().columns, COLUMNS) - 1
        super().__init__(prog, **options)

    def add_argument(self, action: argparse.Action) -> None:
        """Describe an argument; commands stand deeper than argparse expects, and the longest had a line of its own."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += self._indent_increment

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split('\n\n')
        fill = super()._fill_text
        return '\n\n'.join(part if part.startswith(' ') else fill(part, width, indent) for part in paragraphs)


def example(line: str, more: str = '') -> str:
    """Return the end of a command's help: a line that somebody might type, and what else is to be said."""
    return '\n\n'.join(filter(None, ('Example:', f'  {line}', more)))


def segment_name(text: str) -> str:
    """Return a segment's name as it is, as argparse's type.

    Raises
    ------
    argparse.ArgumentTypeError
        It is none: the rule is iblb_open's.
    """
    if not re.fullmatch(r'(?!\.)[A-Za-z0-9._-]{1,63}(?<!\.)', text):
        rule = '1 to 63 of A-Z a-z 0-9 . _ -, with no dot at its beginning or end'
        raise argparse.ArgumentTypeError(f'{text!r} names no segment; a name is {rule}, such as rig0')
    return text


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one sentence, and offers the nearest word that there is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{'formatter_class': Help, **options})

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end with the exit status of misuse."""
        end = '' if message.endswith(('.', '?')) else '.'
        whole = self.prog.removesuffix(' help')  # who asks for help wants the commands, not the usage of help
        self.exit(EXITS['MISUSE'], f'{self.prog}: {message}{end} For usage: {whole} --help\n')

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        names = [str(choice) for choice in action.choices]
        is_command = isinstance(action, argparse._SubParsersAction) or action.metavar == 'COMMAND'
        what = f'there is no command {value!r}' if is_command else f'{value!r} is not one of its choices'
        offer = did_you_mean(str(value), names) or f'; there are {", ".join(names)}'
        raise argparse.ArgumentError(None if is_command else action, what + offer)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse, and refuse at once what is not known: only this parser knows its own options.

        A word that argparse leaves over because it stands behind an option goes where words can be repeated.
        """
        args = sys.argv[1:] if args is None else list(args)
        options = [option for action in self._actions for option in action.option_strings]
        # Before anything else: a misspelt option is also one that is missing.
        for word in args[: args.index('--') if '--' in args else None]:
            if not word.startswith('-') and self._subparsers is not None:
                break  # what follows is the command's
            name = word.partition('=')[0]
            if name.startswith('--') and not any(option.startswith(name) for option in options):
                self.error(f'there is no option {name}{did_you_mean(name, options)}')
        found, rest = super().parse_known_args(args, namespace)
        end = rest.index('--') if '--' in rest else len(rest)  # behind it nothing is an option
        wrong = [word for word in rest[:end] if word.startswith('-') and not _NEGATIVE.fullmatch(word)]
        rest = rest[:end] + rest[end + 1 :]
        repeated = next((a for a in self._actions if not a.option_strings and a.nargs in ('*', '+')), None)
        if wrong or (rest and repeated is None):
            self.error(f'{(wrong or rest)[0]!r} is not expected here')
        if rest and repeated is not None:
            setattr(found, repeated.dest, [*getattr(found, repeated.dest), *rest])
        return found, []


def parse_argument(text: str, *, shown: str = '') -> Any:
    """Return the JSON value that `text` is, or `text` itself if it is plain words.

    NaN and Infinity are words, for JSON has none.

    Parameters
    ----------
    text : str
        One argument of a command line, or what stood in its place.
    shown : str
        What to call it in a sentence; by default its beginning.

    Raises
    ------
    ValueError
        It begins like JSON and is none, or its numbers are too large for any program; the sentence names the place.
    """

    def refuse(name: str) -> NoReturn:
        raise ValueError(f'{name} is not a number in JSON')

    def number(literal: str) -> float:
        if not math.isfinite(value := float(literal)):
            raise OverflowError(literal)
        return value

    try:
        return json.loads(text, parse_constant=refuse, parse_float=number)
    except OverflowError as e:
        raise ValueError(f'{_cut(str(e))} is larger than any number that can be sent') from None
    except (ValueError, RecursionError) as e:
        if not text.lstrip().startswith(BEGINNINGS):
            return text
        wrong = str(e)
        if isinstance(e, json.JSONDecodeError):
            wrong = f'{e.msg[0].lower()}{e.msg[1:]} at character {e.pos + 1}'
        elif isinstance(e, RecursionError):
            wrong = 'it is nested too deeply'
        raise ValueError(f'{shown or _cut(text)} begins like JSON but is not: {wrong}') from None


def command_arguments(words: Sequence[str]) -> list[Any]:
    """Return the arguments of a command, as they are typed; see the rules above.

    Raises
    ------
    ValueError
        One begins like JSON and is none, or its file cannot be read.
    """
    values = []
    for word in words:
        text, shown = _fetched(word)
        values.append(parse_argument(text, shown=shown))
    return values[0] if len(values) == 1 and isinstance(values[0], list) else values


def duration(text: str) -> float:
    """Return a time in s, as argparse's type: ``5``, ``5s``, ``500ms``, ``2min``, ``1h``.

    Raises
    ------
    argparse.ArgumentTypeError
        It is none, or longer than 24 days.
    """
    seconds = length(text)
    if seconds is None or seconds >= _LONGEST:
        raise argparse.ArgumentTypeError(f'{text!r} is not a time; write 5s or 500ms, or a number of seconds')
    return seconds


def waiting(text: str) -> float:
    """Return a time to wait in s, as argparse's type: as `duration`, but at least 1 ms.

    Raises
    ------
    argparse.ArgumentTypeError
        It is none, or so short that it depends on luck whether anything is sent.
    """
    seconds = duration(text)
    if seconds < 0.001:
        raise argparse.ArgumentTypeError(f'{text!r} leaves no time for an answer; write 5s or 500ms')
    return seconds


def length(text: str) -> float | None:
    """Return a time of any length, written as for `duration`, in s; None if it is none."""
    match = re.fullmatch(rf'([0-9]+\.?[0-9]*|\.[0-9]+) *({"|".join(UNITS)}|)', text.strip(), re.ASCII)
    return float(match[1]) * UNITS[match[2] or 's'] if match else None


def _fetched(word: str) -> tuple[str, str]:
    """Return the text of an argument, and what to call it: "" for its own beginning."""
    if word in ('-', '@-'):  # the latter is --args-file -
        return _stripped(_bounded(sys.stdin.buffer, word), 'standard input'), 'standard input'
    if word.startswith('@'):
        try:
            with open(word[1:], 'rb') as file:
                return _stripped(_bounded(file, word), word), word
        except OSError as e:
            raise ValueError(f'{word}: {e.strerror or e}; write a text that begins with @ as \'"@..."\'') from None
    return word, ''


def _bounded(file: BinaryIO, word: str) -> bytes:
    """Return what a file holds, which may have no end, as /dev/zero."""
    raw = file.read(_MOST_BYTES + 1)
    if len(raw) > _MOST_BYTES:
        raise ValueError(f'{word}: it has more than {_MOST_BYTES >> 10} KiB; no command is so long')
    return raw


def _stripped(raw: bytes, name: str) -> str:
    """Return a file's text without the line end at its end, or the mark that Windows puts before it."""
    try:
        return raw.decode('utf-8-sig').rstrip('\r\n')
    except UnicodeDecodeError as e:
        raise ValueError(f'{name} is not UTF-8 at byte {e.start + 1}') from None


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f'{text[: _SHOWN - 3]}...'
