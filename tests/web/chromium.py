"""A headless Chromium, driven by its own DevTools protocol: no more is needed than aiohttp, which the page needs, too.

`Browser` is a context manager; each `Tab` has a size, is told where to go, and is asked what there is to see.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

PROGRAMS = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
FLAGS = (
    '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-extensions', '--disable-sync',
    '--autoplay-policy=user-gesture-required', '--remote-debugging-port=0', '--hide-scrollbars', '--mute-audio',
)  # fmt: skip
KEYS = {
    'Tab': ('Tab', 9, ''), 'Enter': ('Enter', 13, '\r'), 'Escape': ('Escape', 27, ''), 'Space': (' ', 32, ' ')
}  # fmt: skip


def program() -> str | None:
    """Return where Chromium is, None if it is nowhere."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """A running Chromium with a profile of its own."""

    def __enter__(self) -> Browser:
        self._profile = tempfile.mkdtemp(prefix='chromium-')
        command = [str(program()), *FLAGS, f'--user-data-dir={self._profile}', 'about:blank']
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in self._process.stderr:
            if found := re.search(r'DevTools listening on ws://([0-9.:]+)/', line):
                break
        else:
            raise AssertionError('Chromium did not start')
        self._at = f'http://{found[1]}'
        self.loop = asyncio.new_event_loop()
        self.session = self.loop.run_until_complete(self._open())
        self._tabs: list[Tab] = []
        return self

    def __exit__(self, *_: object) -> None:
        for tab in self._tabs:
            self.loop.run_until_complete(tab.socket.close())
        self.loop.run_until_complete(self.session.close())
        self.loop.close()
        self._process.terminate()
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        shutil.rmtree(self._profile, ignore_errors=True)

    async def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    def tab(self, width: int = 1366, height: int = 900, *, phone: bool = False, **media: str) -> Tab:
        """Return a new tab.

        Parameters
        ----------
        width, height : int
            Of what is seen, in CSS pixels.
        phone : bool
            It is one.
        **media : str
            What it prefers, such as ``prefers_color_scheme='dark'``.
        """
        tab = Tab(self, self.loop.run_until_complete(self._new()))
        self._tabs.append(tab)
        size = {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': phone}
        tab.send('Emulation.setDeviceMetricsOverride', **size)
        features = [{'name': name.replace('_', '-'), 'value': value} for name, value in media.items()]
        tab.send('Emulation.setEmulatedMedia', features=features)
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            tab.send(f'{domain}.enable')
        return tab

    async def _new(self) -> aiohttp.ClientWebSocketResponse:
        async with self.session.put(f'{self._at}/json/new?about:blank') as response:
            address = (await response.json())['webSocketDebuggerUrl']
        return await self.session.ws_connect(address, max_msg_size=0)


class Tab:
    """One tab.

    Attributes
    ----------
    complaints : list of str
        What its console has said of errors, and what the page's policy has kept it from doing.
    """

    def __init__(self, browser: Browser, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._browser, self.socket = browser, socket
        self._numbers = itertools.count(1)
        self.complaints: list[str] = []

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Carry out a command of the protocol, and return its result."""
        return self._browser.loop.run_until_complete(asyncio.wait_for(self._send(method, params), 30))

    async def _send(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        await self.socket.send_json({'id': number, 'method': method, 'params': params})
        while True:
            said = json.loads((await self.socket.receive()).data)
            if said.get('id') == number:
                assert 'error' not in said, said
                return said['result']
            self._hear(said)

    def _hear(self, said: dict[str, Any]) -> None:
        match said.get('method'), said.get('params'):
            case 'Runtime.exceptionThrown', params:
                self.complaints.append(json.dumps(params['exceptionDetails']))
            case 'Log.entryAdded', {'entry': {'level': 'error', 'text': text, **entry}}:
                self.complaints.append(f'{text} {entry.get("url", "")}')

    def go(self, address: str) -> None:
        """Open an address."""
        self.send('Page.navigate', url=address)
        self.wait('document.readyState === "complete"')

    def ask(self, code: str) -> Any:
        """Return the value of an expression of JavaScript; a promise is awaited."""
        done = self.send('Runtime.evaluate', expression=code, returnByValue=True, awaitPromise=True, userGesture=True)
        assert 'exceptionDetails' not in done, done
        return done['result'].get('value')

    def wait(self, code: str, timeout: float = 10.0) -> Any:
        """Return the first true value of an expression."""
        until = time.monotonic() + timeout
        while not (value := self.ask(code)):
            assert time.monotonic() < until, f'{code} did not become true: {self.ask("document.body.innerText")}'
            time.sleep(0.01)
        return value

    def text(self, selector: str) -> str:
        """Return the text of an element, as it is seen."""
        return str(self.ask(f'document.querySelector({json.dumps(selector)}).innerText'))

    def click(self, selector: str) -> None:
        """Click in the middle of an element, with a mouse."""
        element = f'document.querySelector({json.dumps(selector)})'
        self.ask(f'{element}.scrollIntoView({{block: "center"}})')
        box = self.ask(f'{element}.getBoundingClientRect().toJSON()')
        place = box['x'] + box['width'] / 2, box['y'] + box['height'] / 2
        for kind in ('mousePressed', 'mouseReleased'):
            self.send('Input.dispatchMouseEvent', type=kind, x=place[0], y=place[1], button='left', clickCount=1)

    def press(self, key: str) -> None:
        """Press a key."""
        name, code, text = KEYS[key]
        for kind in ('keyDown', 'keyUp'):
            typed = {'text': text} if text and kind == 'keyDown' else {}
            self.send('Input.dispatchKeyEvent', type=kind, key=name, windowsVirtualKeyCode=code, **typed)

    def shot(self, name: str, *, whole: bool = True) -> None:
        """Take a picture for people into ``IBLBRIDGE_PICTURES``, if that is set."""
        if folder := os.environ.get('IBLBRIDGE_PICTURES'):
            data = self.send('Page.captureScreenshot', format='png', captureBeyondViewport=whole)['data']
            Path(folder, f'{name}.png').write_bytes(base64.b64decode(data))
