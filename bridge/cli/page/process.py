"""The status page of a worker as a process of its own, which is started with it and ends with it.

Whatever becomes of the page, the worker goes on, and starts it anew. It ends when its standard input does, so also when
the worker is killed. What it says is logged.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from typing import Any

from bridge.addresses import ConfigError, NotToBeHad
from bridge.cli.page import TOKEN
from bridge.numbers import EXITS
from bridge.web.address import PageConfig

log = logging.getLogger(__name__)

AT_FIRST = 10.0  # s that a worker waits for it
LAST_WORDS = 3.0  # s to end
PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)  # s before it is started anew
_READY = 'READY '
# CREATE_NO_WINDOW: a console of its own; BELOW_NORMAL_PRIORITY_CLASS, as elsewhere the page is nice
_FRESH = 0x08000000 | 0x00004000 if sys.platform == 'win32' else 0


class PageProcess:
    """The page of a rig.

    Parameters
    ----------
    segment : str
        Its name.
    page : PageConfig
        Where the page is.
    """

    def __init__(self, segment: str, page: PageConfig) -> None:
        hosts = [word for host in page.hosts for word in ('--host', host)]
        self._command = [sys.executable, '-m', 'bridge', 'page', segment, '--http', page.address, *hosts, '--until-eof']
        self._environment = os.environ | ({TOKEN: page.token} if page.token else {})
        self._closing, self._told = threading.Event(), threading.Event()
        self._ready, self._said, self._late = '', list[str](), False
        self._process = self._start()
        self._thread = threading.Thread(target=self._watch, name='page', daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until browsers can connect, though not for long; ConfigError says why they cannot."""
        if not self._told.wait(AT_FIRST):
            self._late = True
            log.warning('the status page is not there yet; the rig does not wait for it')
            return
        if not self._ready:
            sentence = ' '.join(self._said).removeprefix('iblbridge page: ').strip()
            kind = NotToBeHad if self._process.poll() == EXITS['NO_RIG'] else ConfigError
            raise kind(sentence or '--http: the status page does not start.')
        log.info('status page: %s', self._ready)

    def close(self) -> None:
        """End it. Harmless twice."""
        self._closing.set()
        self._let_end(self._process)
        self._thread.join(LAST_WORDS)

    def _start(self) -> subprocess.Popen[str]:
        pipe: Any = subprocess.PIPE
        return subprocess.Popen(
            self._command,
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.STDOUT,
            encoding='utf-8',
            errors='backslashreplace',
            env=self._environment,
            creationflags=_FRESH,
            start_new_session=True,  # else a Ctrl-C for the worker ends it while it still reads its modules
        )

    def _let_end(self, process: subprocess.Popen[str]) -> None:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(LAST_WORDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(LAST_WORDS)

    def _watch(self) -> None:
        """Log what it says, and start it anew if it ends by itself."""
        tried = 0
        while True:
            self._listen(self._process)
            status = self._process.wait()
            self._told.set()
            if self._late and not self._ready:
                log.error('there is no status page: %s', ' '.join(self._said))
            if self._closing.is_set() or not self._ready:
                return
            pause = PAUSES[min(tried, len(PAUSES) - 1)]
            log.warning('the status page has ended (%s); it is started anew in %g s; the rig goes on', status, pause)
            tried += 1
            while not self._closing.wait(pause):
                try:
                    self._process = self._start()
                    break
                except OSError as e:  # no descriptors or processes are left, for now
                    pause = PAUSES[-1]
                    log.error('the status page cannot be started: %s; it is tried again in %g s', e, pause)
            else:
                return
            if self._closing.is_set():  # meanwhile
                self._let_end(self._process)

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                said = line.rstrip()
                if said.startswith(_READY):
                    if self._told.is_set() or self._late:
                        log.info('status page: %s', said.removeprefix(_READY))
                    self._ready = said.removeprefix(_READY)
                    self._told.set()
                elif self._ready:
                    log.warning('status page: %s', said)
                else:
                    self._said.append(said)
