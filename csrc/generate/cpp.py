"""The names of the codes, for the C++ client; the numbers it takes from the C header."""

from __future__ import annotations

from interface import Interface


def names(interface: Interface) -> str:
    """Return the cases of `error_name`."""
    return '\n'.join(f'    case {code.name}: return "{code.name}";' for code in interface.codes)


TABLES = {('csrc/include/iblbridge.hpp', 'codes'): names}
