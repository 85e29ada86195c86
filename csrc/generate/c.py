"""The codes: `#define` lines of the header, and a table in csrc/README.md. The reasons: a comment of the header."""

from __future__ import annotations

from interface import Interface


def header_lines(interface: Interface) -> str:
    """Return the `#define` lines of the public header."""
    return '\n'.join(f'#define {c.name} {c.number} /* {c.source}: {c.meaning} */' for c in interface.codes)


def reason_lines(interface: Interface) -> str:
    """Return the list of reasons, within a comment of the public header."""
    width = max(len(reason.word) for reason in interface.reasons)
    return '\n'.join(f' *     {reason.word:{width}}  {reason.meaning}' for reason in interface.reasons)


def manual_lines(interface: Interface) -> str:
    """Return the Markdown table of csrc/README.md."""
    rows = [f'| {c.number} | `{c.name}` | {c.source} | {c.meaning} | {c.remedy} |' for c in interface.codes]
    return '\n'.join(['| code | name | from | what happened | what to do |', '|---|---|---|---|---|', *rows])


TABLES = {
    ('csrc/include/iblbridge.h', 'codes'): header_lines,
    ('csrc/include/iblbridge.h', 'reasons'): reason_lines,
    ('csrc/README.md', 'codes'): manual_lines,
}
