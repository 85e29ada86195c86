"""What differs between the systems that the tests run on: how a process is asked to end, stopped, killed and found.

A test that is about a POSIX system alone has the marker ``posix``, one that holds on Windows and not under Wine has
``not_wine``, each with its reason; `conftest` skips it there.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

WINDOWS = sys.platform == 'win32'
WINE = WINDOWS and hasattr(ctypes.WinDLL('ntdll'), 'wine_get_version')
PATIENCE = 3 if WINE else 1
"""int: how many times longer than elsewhere something may take (a start of Python: 1 to 2 s under Wine)."""

ROOT = not WINDOWS and os.geteuid() == 0

HERE = '127.0.0.1'
HOSTS = [HERE] if WINE else [f'127.0.0.{1 + i}' for i in range(5)]
"""list of str: addresses of this computer, as of several; what is sent to 127.0.0.2 is answered from .1 by Wine."""

APART: dict[str, Any] = {}
"""dict: how a process is started that is to be asked to end, for `subprocess.Popen`."""

ENDS = 'SIGTERM'
"""str: the signal that asks a program to end, on Windows what a console makes of Ctrl-C."""

END_SIGNALS: list[Any] = ['SIGTERM', 'SIGINT', 'SIGHUP']
"""list: all of them, for `pytest.mark.parametrize`."""

KILLED = -9
"""int: the exit status of a process that `kill` has ended."""

if WINDOWS:
    APART = {'creationflags': subprocess.CREATE_NO_WINDOW}  # a console of its own
    ENDS = 'SIGINT'
    END_SIGNALS = ['SIGINT', pytest.param('SIGBREAK', marks=pytest.mark.not_wine('it has no Ctrl-Break'))]
    KILLED = 9

# Whoever wants to send an event to a console has to be attached to it, and gets the event as well; as long as somebody
# is attached, the console is there, and with it the pipes of the program that it was made for.
RING = """
import ctypes, sys, threading
kernel = ctypes.WinDLL('kernel32', use_last_error=True)
came = threading.Event()
ignore = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_ulong)(lambda event: came.set() or 1)
kernel.FreeConsole()
for line in sys.stdin:
    process, event = map(int, line.split())
    came.clear()
    done = kernel.AttachConsole(process) and kernel.SetConsoleCtrlHandler(ignore, 1)
    done = done and kernel.GenerateConsoleCtrlEvent(event, 0) and came.wait(5)
    print('done' if done else f'error {ctypes.get_last_error()}', flush=True)
    kernel.FreeConsole()
"""
_bells: list[subprocess.Popen[str]] = []


def hear_signals() -> None:
    """Give what we start the default, as on a terminal; who started us may have left signals ignored (nohup, ``&``)."""
    if WINDOWS:
        ctypes.WinDLL('kernel32').SetConsoleCtrlHandler(None, 0)
        return
    for number, default in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)


def ctrl_c(process: subprocess.Popen[str]) -> None:
    """Press Ctrl-C in the terminal of a process that was started in a session, or with `APART`."""
    if WINDOWS:
        ask_to_end(process, 'SIGINT')  # that is what it does
    else:
        os.killpg(process.pid, signal.SIGINT)


def ask_to_end(process: subprocess.Popen[str], how: str = ENDS) -> None:
    """Ask a process that was started with `APART` to end, as a terminal or a service manager does."""
    if not WINDOWS:
        process.send_signal(getattr(signal, how))
        return
    if not _bells:
        pipe = subprocess.PIPE
        _bells.append(subprocess.Popen([sys.executable, '-Ic', RING], stdin=pipe, stdout=pipe, text=True))
    event = {'SIGINT': signal.CTRL_C_EVENT, 'SIGBREAK': signal.CTRL_BREAK_EVENT}[how]
    print(process.pid, int(event), file=_bells[0].stdin, flush=True)
    said = _bells[0].stdout.readline()
    assert said == 'done\n' or process.wait(5) is not None, said


def stop(process: subprocess.Popen[Any]) -> None:
    """Stop as a debugger does, and wait until it stands still."""
    if WINDOWS:
        ctypes.WinDLL('ntdll').NtSuspendProcess(ctypes.c_void_p(int(process._handle)))
    else:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


def go_on(process: subprocess.Popen[Any]) -> None:
    """Let a stopped process go on."""
    if WINDOWS:
        ctypes.WinDLL('ntdll').NtResumeProcess(ctypes.c_void_p(int(process._handle)))
    else:
        process.send_signal(signal.SIGCONT)


def kill(pid: int) -> None:
    """Kill a process that somebody else has started."""
    os.kill(pid, 9)  # on Windows that is the exit status


def small_pipe() -> tuple[int, int]:
    """Make a pipe that takes 4 kB before its reader has to; return both ends."""
    reader, writer = os.pipe()  # Windows' own are so
    if not WINDOWS:
        import fcntl

        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    return reader, writer


def number_of(path: Path) -> int:
    """Return the number that a file has whatever its name."""
    with open(path, 'rb') as file:
        return os.fstat(file.fileno()).st_ino


def opened(path: Path) -> IO[bytes]:
    """Open a file in a way that lets others remove it."""
    if not WINDOWS:
        return open(path, 'rb')
    import _winapi
    import msvcrt

    read, share_all, existing = 0x80000000, 7, 3
    handle = _winapi.CreateFile(str(path), read, share_all, 0, existing, 0, 0)
    return open(msvcrt.open_osfhandle(handle, os.O_RDONLY), 'rb')


def let_everybody_write(directory: Path) -> None:
    """Give every user the right to do everything."""
    if not WINDOWS:
        directory.chmod(0o777)
        return
    descriptor, everybody, access_list = ctypes.c_void_p(), 'D:(A;OICI;FA;;;WD)', 4
    security, local = ctypes.WinDLL('advapi32'), ctypes.WinDLL('kernel32')
    convert = security.ConvertStringSecurityDescriptorToSecurityDescriptorW
    assert convert(ctypes.c_wchar_p(everybody), 1, ctypes.byref(descriptor), None)
    assert security.SetFileSecurityW(ctypes.c_wchar_p(str(directory)), access_list, descriptor)
    local.LocalFree(descriptor)


def remove(path: Path) -> None:
    """Remove a file, though somebody uses it: Windows lets nobody do that, but give it another name."""
    if WINDOWS:
        path.rename(path.with_name(f'.removed.{time.monotonic_ns():016x}'))
    else:
        path.unlink()


def replace(new: Path, old: Path) -> None:
    """Put a file in the place of another that somebody uses."""
    if WINDOWS:
        remove(old)
    new.replace(old)


def family(root: subprocess.Popen[Any], mark: str) -> dict[int, str]:
    """Return what lives of a process and all that it has started: a name by process.

    Parameters
    ----------
    root : subprocess.Popen
        The process, which may have ended.
    mark : str
        ``'NAME=value'``, which it was given in its environment.
    """
    return dict(_descendants(root) if WINDOWS else _marked(mark))


def _marked(mark: str) -> Iterator[tuple[int, str]]:
    for directory in Path('/proc').glob('[0-9]*'):
        try:
            if mark.encode() in (directory / 'environ').read_bytes():
                yield int(directory.name), (directory / 'cmdline').read_text().replace('\0', ' ')
        except OSError:
            continue


class _Entry(ctypes.Structure):
    """PROCESSENTRY32W."""

    _fields_ = [
        ('size', ctypes.c_uint32),
        ('usage', ctypes.c_uint32),
        ('pid', ctypes.c_uint32),
        ('heap', ctypes.c_size_t),
        ('module', ctypes.c_uint32),
        ('threads', ctypes.c_uint32),
        ('parent', ctypes.c_uint32),
        ('priority', ctypes.c_int32),
        ('flags', ctypes.c_uint32),
        ('name', ctypes.c_wchar * 260),
    ]


def _descendants(root: subprocess.Popen[Any]) -> Iterator[tuple[int, str]]:
    kernel = ctypes.WinDLL('kernel32')
    kernel.CreateToolhelp32Snapshot.restype = kernel.OpenProcess.restype = ctypes.c_void_p

    def born(handle: int | None) -> int:
        """When a process began; 0 if it is gone."""
        times = (ctypes.c_uint64 * 4)()
        every = [ctypes.c_void_p(ctypes.addressof(times) + 8 * i) for i in range(4)]
        return times[0] if handle and kernel.GetProcessTimes(ctypes.c_void_p(handle), *every) else 0

    snapshot = ctypes.c_void_p(kernel.CreateToolhelp32Snapshot(2, 0))
    entry = _Entry(size=ctypes.sizeof(_Entry))
    listed = []
    more = kernel.Process32FirstW(snapshot, ctypes.byref(entry))
    while more:
        if entry.name.lower() not in ('', 'conhost.exe'):  # the console's; what has no name yet may become it
            listed.append((entry.pid, entry.parent, entry.name))
        more = kernel.Process32NextW(snapshot, ctypes.byref(entry))
    kernel.CloseHandle(snapshot)
    # Numbers are used again, and a process keeps that of its parent: only what is younger than that can be its child.
    began = {root.pid: born(int(root._handle))}
    for _ in range(3):  # generations
        for pid, parent, _ in listed:
            if parent in began and pid not in began:
                handle = kernel.OpenProcess(0x1000, 0, pid)  # to ask for its times
                if (moment := born(handle)) >= began[parent]:
                    began[pid] = moment
                kernel.CloseHandle(ctypes.c_void_p(handle))
    names = {pid: name for pid, _, name in listed}
    for pid in began:
        if pid in names and (pid != root.pid or root.poll() is None):
            yield pid, names[pid]
