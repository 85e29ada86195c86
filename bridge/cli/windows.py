"""What the command line asks of Windows itself, which has no other word for it than its own functions."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import msvcrt
import os
import sys
import time
import winreg
from collections.abc import Callable
from typing import Any

assert sys.platform == 'win32'

_PEEK_EVERY = 0.1  # s
_BROKEN_PIPE = 109  # the other end is closed
_STDIN = -10
_QUICK_EDIT, _EXTENDED_FLAGS = 0x40, 0x80
_CONSOLE_ENDS = {2: 'CTRL_CLOSE_EVENT', 5: 'CTRL_LOGOFF_EVENT', 6: 'CTRL_SHUTDOWN_EVENT'}

_kernel = ctypes.WinDLL('kernel32', use_last_error=True)
_kept: list[Any] = []  # what Windows calls must not be collected


def on_console_end(callback: Callable[[str], None]) -> None:
    """Have `callback` called when the console's window is closed, or the user logs off.

    Windows ends the process when its handler returns, or after 5 s: the main thread is to be faster.
    """

    def handle(event: int) -> int:
        if event not in _CONSOLE_ENDS:
            return 0
        callback(_CONSOLE_ENDS[event])
        time.sleep(60)
        return 1

    _kept.append(ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_ulong)(handle))
    _kernel.SetConsoleCtrlHandler(_kept[-1], 1)


def wait_for_stdin_end() -> None:
    """Return when standard input, if it is a pipe or a file, has ended; never if it is a console.

    A thread that blocks in a read of it would hold up every other that asks for it: to import numpy does. So a pipe is
    looked into; where that is not possible (a file; under Wine a pipe of the system below), it is read.
    """
    handle, there = ctypes.c_void_p(msvcrt.get_osfhandle(0)), ctypes.c_ulong()
    while os.isatty(0):
        time.sleep(3600)
    while _kernel.PeekNamedPipe(handle, None, 0, None, ctypes.byref(there), None):
        if there.value:
            os.read(0, there.value)
        else:
            time.sleep(_PEEK_EVERY)
    if ctypes.get_last_error() != _BROKEN_PIPE:
        while os.read(0, 4096):
            pass


def turn_quick_edit_off() -> None:
    """Keep a click into the console's window from stopping whoever writes to it; until the end of this process."""
    handle, mode = ctypes.c_void_p(_kernel.GetStdHandle(_STDIN)), ctypes.c_ulong()
    if _kernel.GetConsoleMode(handle, ctypes.byref(mode)):
        _kernel.SetConsoleMode(handle, mode.value & ~_QUICK_EDIT | _EXTENDED_FLAGS)
        atexit.register(_kernel.SetConsoleMode, handle, mode.value | _EXTENDED_FLAGS)


def running_program() -> str:
    """Return the file that this process runs.

    In a virtual environment `sys.executable` is another one: the program that started it, which only waits for its end.
    """
    path = ctypes.create_unicode_buffer(32768)
    _kernel.GetModuleFileNameW(None, path, len(path))
    return path.value


def firewall_entries() -> dict[str, str]:
    """Return the rules of Windows' firewall as the registry holds them; {} if they cannot be read."""
    place = r'SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy\FirewallRules'
    found: dict[str, str] = {}
    with contextlib.suppress(OSError), winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:
        for i in range(winreg.QueryInfoKey(key)[1]):
            name, text, _ = winreg.EnumValue(key, i)
            found[name] = str(text)
    return found


def variable_of_the_user(name: str) -> str:
    """Return what a variable is for programs that Windows starts for this user, also by `setx`; "" if it is not set."""
    of_all = r'SYSTEM\CurrentControlSet\Control\Session Manager\Environment'
    for root, place in ((winreg.HKEY_CURRENT_USER, 'Environment'), (winreg.HKEY_LOCAL_MACHINE, of_all)):
        with contextlib.suppress(OSError), winreg.OpenKey(root, place) as key:
            text, kind = winreg.QueryValueEx(key, name)
            return winreg.ExpandEnvironmentStrings(str(text)) if kind == winreg.REG_EXPAND_SZ else str(text)
    return ''
