"""The page in a real browser: what people see, hear and can press, and what nobody can."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from peers import eventually
from systems import APART, WINDOWS

from bridge.segment.client import Client

if WINDOWS:
    pytest.skip('the browser is the one of Linux', allow_module_level=True)
pytest.importorskip('aiohttp', reason='the extra web is not installed')
pytest.importorskip('prometheus_client', reason='the extra web is not installed')

from chromium import Browser, Tab, program  # noqa: E402
from test_page_process import Rig  # noqa: E402

pytestmark = [pytest.mark.slow]
REF = '2026-01-01_1_subject'
EVIL = '<script>window.evil = 1</script><img src=x onerror="window.evil = 2">'
TILE = '#services li:nth-child({})'
FRESH = 'document.body.className === ""'


@pytest.fixture(scope='module')
def browser() -> Iterator[Browser]:
    if program() is None:
        (pytest.fail if 'CI' in os.environ else pytest.skip)('Chromium is not installed')
    with Browser() as browser:
        yield browser


class Service:
    """A simulated service in a process of its own."""

    def __init__(self, name: str, *options: str) -> None:
        command = [sys.executable, '-m', 'bridge', 'simulate', '--name', name, '--port', '0', '-v', *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **APART)
        self.uri = self.process.stdout.readline().split()[-1]
        self.heard: list[str] = []
        threading.Thread(target=lambda: self.heard.extend(self.process.stdout), daemon=True).start()

    def end(self) -> None:
        self.process.kill()
        self.process.wait(10)


@contextmanager
def rig(*settings: str, **services: Service) -> Iterator[Rig]:
    words = [word for name, service in services.items() for word in ('--service', f'{name}={service.uri}')]
    command = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig', '--http', '127.0.0.1:0', *words, *settings]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, **APART)
    try:
        yield Rig(process)
    finally:
        process.kill()
        process.communicate(timeout=20)
        for service in services.values():
            service.end()


def opened(browser: Browser, served: Rig, *size: int, **options) -> Tab:
    tab = browser.tab(*size, **options)
    tab.go(served.url)
    tab.wait(FRESH)
    tab.wait('document.querySelector("#services li .word").innerText')
    return tab


def light(tab: Tab, number: int) -> str:
    return str(tab.ask(f'document.querySelector("{TILE.format(number)}").dataset.light'))


def begin(client: Client, tab: Tab) -> None:
    client.call('EXPINIT', REF)
    client.call('EXPSTART', REF)
    tab.wait('document.querySelector("#experiment").dataset.running === "true"')


def test_a_service_that_is_killed_while_it_runs_is_red_within_two_seconds_of_the_worker_knowing(browser, tmp_path):
    file = tmp_path / 'rig.yaml'
    file.write_text('_rig: {heartbeat: 0.5}')
    cameras, ephys = Service('cameras'), Service('ephys')
    with rig('--settings', str(file), cameras=cameras, ephys=ephys) as served, Client('rig', 'stimulus') as client:
        tab = opened(browser, served)
        phone = opened(browser, served, 360, 740, phone=True)
        dark = opened(browser, served, prefers_color_scheme='dark', prefers_reduced_motion='reduce')
        begin(client, tab)
        tab.wait('document.querySelectorAll("#services [data-light=green]").length === 2')
        assert tab.text('#reference') == REF and re.match(r'0:00:\d\d', tab.text('#took'))
        for each, name in ((tab, 'desktop'), (phone, 'phone'), (dark, 'dark')):
            each.wait('document.querySelectorAll("#commands li.command").length === 2')
            each.shot(f'running-{name}')
        client.subscribe('SERVICE_DOWN')
        cameras.end()
        assert client.next_event(20)['service'] == 'cameras'
        knows = time.monotonic()
        tab.wait(f'document.querySelector("{TILE.format(1)}").dataset.light === "red"', 2.0)
        tab.wait('!document.querySelector("#alarm").hidden', 2.0 - (time.monotonic() - knows))
        assert light(tab, 2) == 'green'
        said = [line for line in tab.text(TILE.format(1)).splitlines() if line]
        assert said[:3] == ['cameras', 'DOWN', 'was RUNNING']
        assert 'cameras is lost' in tab.text('#alarm')
        tab.wait('document.title === "⚠ ALARM rig"', 5)
        tab.wait('document.title === "cameras is lost"', 5)
        for each, name in ((tab, 'desktop'), (phone, 'phone'), (dark, 'dark')):
            each.wait('!document.querySelector("#alarm").hidden')
            each.shot(f'alarm-{name}')
        width = tab.ask('document.querySelector("#alarm").getBoundingClientRect().width / innerWidth')
        assert width == 1 and dark.ask('getComputedStyle(document.querySelector("#alarm")).animationName') == 'none'
        assert not tab.complaints and not phone.complaints and not dark.complaints


def test_an_alarm_stays_until_somebody_has_seen_it_and_over_a_reload(browser):
    cameras, ephys = Service('cameras'), Service('ephys')
    with rig(cameras=cameras, ephys=ephys) as served, Client('rig', 'stimulus') as client:
        tab, other = opened(browser, served), opened(browser, served)
        begin(client, tab)
        cameras.end()
        client.send('EXPSTATUS', 20)
        tab.wait('!document.querySelector("#alarm").hidden')
        client.send('EXPEND')
        tab.wait('document.querySelector("#experiment").dataset.running === "false"')
        tab.go(served.url)
        tab.wait('!document.querySelector("#alarm").hidden')
        tab.click('#seen')
        tab.wait('document.querySelector("#alarm").hidden')
        tab.go(served.url)
        tab.wait(f'document.querySelector("{TILE.format(1)}")?.dataset.light === "red"')
        assert tab.ask('document.querySelector("#alarm").hidden') and not tab.ask('document.title').startswith('⚠')
        other.wait('document.querySelector("#alarm").hidden')  # another tab of the same browser


def test_the_button_reaches_both_services_after_a_question_and_with_the_keyboard_alone(browser):
    cameras, ephys = Service('cameras'), Service('ephys', '--delay', '0.2')
    with rig(cameras=cameras, ephys=ephys) as served, Client('rig', 'stimulus') as client:
        tab = opened(browser, served)
        begin(client, tab)
        tab.click('#interrupt')
        tab.wait('document.querySelector("#confirm").open')
        assert tab.ask('document.activeElement.id') == 'no', 'Enter alone interrupts nothing'
        tab.shot('confirm', whole=False)
        tab.press('Enter')
        tab.wait('!document.querySelector("#confirm").open')
        assert not [line for line in cameras.heard if 'EXPINTERRUPT' in line]
        for _ in range(20):
            tab.press('Tab')
            if tab.ask('document.activeElement.id') == 'interrupt':
                break
        assert tab.ask('document.activeElement.matches(":focus-visible")')
        tab.press('Enter')
        tab.wait('document.querySelector("#confirm").open')
        tab.press('Escape')
        tab.wait('!document.querySelector("#confirm").open')
        tab.press('Enter')
        tab.wait('document.querySelector("#confirm").open')
        tab.press('Tab')
        assert tab.ask('document.activeElement.id') == 'yes'
        tab.press('Enter')
        tab.wait('document.querySelector("#pressed").innerText === "EXPINTERRUPT: done by cameras, ephys."')
        for service in (cameras, ephys):
            eventually(lambda service=service: [line for line in service.heard if 'EXPINTERRUPT' in line])
        tab.wait('document.querySelector("#commands strong").innerText === "EXPINTERRUPT"')
        tab.wait('document.querySelector("#experiment").dataset.running === "false"')
        tab.shot('interrupted')
        assert not tab.complaints


def test_no_other_page_can_press_it_or_read_what_we_say_or_put_us_into_a_frame(browser):
    cameras = Service('cameras')
    with rig(cameras=cameras) as served, elsewhere() as other:
        eventually(lambda: (s := served.state()) and s['services'])
        tab = browser.tab()
        tab.go(other)
        for token in ('', ", headers: {'X-Iblbridge-Press': 'x'}"):
            for mode in ('cors', 'no-cors'):
                code = (
                    f"fetch('{served.url}api/interrupt', {{method: 'POST', mode: '{mode}'{token}}}).then(r => r.text())"
                )
                said = tab.ask(f"{code}.catch(e => 'failed')")
                assert said in ('failed', ''), said
        for path in ('', 'api/state', 'api/events', 'metrics'):
            assert tab.ask(f"fetch('{served.url}{path}').then(r => r.text()).catch(e => 'failed')") == 'failed'
        tab.ask(
            f"new Promise(done => {{ const f = document.createElement('iframe'); f.src = '{served.url}';"
            ' f.onload = done; f.onerror = done; document.body.append(f); })'
        )
        assert tab.ask("(() => { try { return document.querySelector('iframe').contentDocument; }"
                       " catch { return 1; } })() !== 0")  # fmt: skip
        assert any('frame' in said.lower() or 'frame-ancestors' in said for said in tab.complaints)
        tab.ask(
            f"(() => {{ const f = document.createElement('form'); f.method = 'post'; f.target = '_blank';"
            f" f.action = '{served.url}api/interrupt'; document.body.append(f); f.submit(); }})()"
        )
        served.until('the button was refused to 127.0.0.1: the button was pressed from another page')
        with Client('rig', 'stimulus') as client:
            client.call('EXPSTATUS', 0)
        assert not [line for line in cameras.heard if 'EXPINTERRUPT' in line]


@contextmanager
def elsewhere() -> Iterator[str]:
    """Serve an empty page of somebody else."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header('Content-Type', 'text/html')
            self.end_headers()
            self.wfile.write(b'<!doctype html><title>other</title><body>')

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Empty) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        try:
            yield f'http://127.0.0.1:{httpd.server_port}/'
        finally:
            httpd.shutdown()


def test_what_services_and_programs_say_is_text_whatever_it_is(browser):
    """Names, references, arguments and errors that are markup: each is seen as it is, and nothing of it is run."""
    from test_server import STATE, Served

    hostile = json.loads(json.dumps(STATE).replace('cameras', 'CAM').replace(REF, 'REF'))
    text = json.dumps(EVIL)[1:-1]
    whole = json.loads(json.dumps(hostile).replace('CAM', text).replace('REF', text).replace('stimulus', text))
    service = whole['services'][0]
    service |= {'last_error': EVIL, 'exp_ref': f'{EVIL}2', 'uri': EVIL, 'status_name': EVIL}
    whole['alarms'] = [{'id': EVIL, 'title': EVIL, 'text': EVIL, 'wall': EVIL, 'over': EVIL}]
    whole['events'] = [{'event': EVIL, 'service': EVIL, 'client': EVIL, 'said': EVIL, 'wall': EVIL}]
    whole['findings'] = [EVIL]
    whole['listeners'] = [
        {'name': EVIL, 'client': EVIL, 'pid': 1, 'status_name': EVIL, 'exp_ref': EVIL, 'masters': [EVIL], 'age_ms': 1,
         'refused': 1, 'light': 'green'}
    ]  # fmt: skip
    with Served() as served:
        served.show(whole)
        tab = browser.tab()
        tab.go(f'http://{served.host}/')
        served.show(whole)
        tab.wait('document.querySelector("#services li .word")?.innerText')
        assert tab.ask('window.evil === undefined')
        assert tab.ask('document.querySelectorAll("main script, main img, #alarm img, #alarm script").length') == 0
        assert tab.ask('document.querySelector("#services h3").textContent') == EVIL
        for selector in ('#alarms', '#events', '#commands', '#programs', '#listeners', '#findings', '#reference'):
            assert EVIL in tab.ask(f'document.querySelector("{selector}").textContent'), selector
        assert tab.ask('document.documentElement.scrollWidth <= innerWidth')
        assert not tab.complaints


def test_a_page_that_lost_its_worker_says_so_within_seconds_and_comes_back_by_itself(browser):
    cameras = Service('cameras')
    with rig(cameras=cameras) as served:
        tab = opened(browser, served)
        tab.wait('document.querySelectorAll("#services [data-light=green]").length === 1')
        port = served.url.rstrip('/').rpartition(':')[2]
        served.process.kill()
        tab.wait('document.body.className === "lost"', 6)
        assert light(tab, 1) == 'none' and 'No connection to the worker' in tab.text('#lost')
        assert tab.ask('document.querySelector("#interrupt").disabled')
        assert tab.ask('document.title') == '✕ rig: no connection'
        tab.shot('lost')
        with rig('--http', f'127.0.0.1:{port}', cameras=cameras):
            tab.wait(FRESH, 20)
            tab.wait('document.querySelectorAll("#services [data-light=green]").length === 1', 20)
            assert tab.ask('document.querySelector("#lost").hidden')


def test_a_stopped_worker_is_not_green(browser):
    cameras = Service('cameras')
    with rig(cameras=cameras) as served:
        tab = opened(browser, served)
        tab.wait('document.querySelectorAll("#services [data-light=green]").length === 1')
        os.kill(served.process.pid, signal.SIGSTOP)
        tab.wait('document.querySelector("#services li").dataset.light === "none"', 5)
        assert 'The worker is stopped' in tab.text('#lost')
        tab.shot('stopped')
        os.kill(served.process.pid, signal.SIGCONT)
        tab.wait('document.querySelector("#services li").dataset.light === "green"', 10)


def test_each_service_of_a_command_is_shown_as_it_answers(browser):
    quick, slow = Service('quick'), Service('slow', '--delay', '3')
    with rig(quick=quick, slow=slow) as served, Client('rig', 'stimulus') as client:
        tab = opened(browser, served)
        request = client.send('EXPINIT', REF)
        tab.wait('document.querySelector("#commands .chips .ok")?.innerText.startsWith("✓ quick")')
        assert tab.text('#commands .chips .open').startswith('… slow')
        assert 'under way' in tab.text('#commands')
        tab.shot('under-way')
        client.wait(request)
        tab.wait('document.querySelectorAll("#commands .chips .ok").length === 2')


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_every_text_has_the_contrast_that_it_needs_and_nothing_is_wider_than_a_phone(browser, scheme):
    from test_server import STATE, Served

    state = json.loads(json.dumps(STATE))
    one = state['services'][0]
    state['services'] = [
        {**one, 'name': light, 'light': light, 'health': health, 'last_error': 'it says why, at some length ' * 4}
        for light, health in (('green', 'up'), ('yellow', 'unknown'), ('red', 'down'), ('none', 'down'))
    ]
    state['alarms'] = [{'id': '1', 'title': 'cameras is lost', 'text': 'x', 'wall': state['now'], 'over': ''}]
    state['findings'] = ['something is wrong']
    state['commands'] = [
        state['commands'][0] | {'command_id': result, 'result': result, 'finished': result != 'under way', 'error': 'x'}
        for result in ('done', 'under way', 'failed', 'warning')
    ]
    state['events'] = [{'event': 'SERVICE_DOWN', 'service': 'cameras', 'client': '', 'said': 'x', 'wall': state['now']}]
    with Served() as served:
        served.show(state)
        tab = browser.tab(360, 740, phone=True, prefers_color_scheme=scheme, prefers_reduced_motion='reduce')
        tab.go(f'http://{served.host}/')
        served.show(state)
        tab.wait('document.querySelector("#services li .word")?.innerText')
        low = tab.ask(CONTRAST)
        assert not [each for each in low if each[0] < 4.5], low
        assert len(low) > 40
        assert tab.ask('document.documentElement.scrollWidth') <= 360
        small = 'Array.from(document.querySelectorAll("button")).map(b => b.getBoundingClientRect().height)'
        assert min(height for height in tab.ask(small) if height) >= 44


# Of each element with a text of its own: the contrast of its colour to the ground behind it, by WCAG 2.
CONTRAST = """
(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const lum = (c) => { const [r, g, b] = [...c].slice(0, 3).map(v => (v /= 255) <= .04045 ? v / 12.92
    : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.textContent.trim()).join('');
    if (!own || !element.checkVisibility() || element.closest('.unseen, noscript, dialog:not([open])')) continue;
    let behind = element, ground;
    do { ground = rgb(getComputedStyle(behind).backgroundColor); behind = behind.parentElement; }
    while (ground[3] < 255 && behind);
    const [a, b] = [lum(rgb(getComputedStyle(element).color)), lum(ground)].sort((x, y) => y - x);
    found.push([(a + .05) / (b + .05), own.slice(0, 30), element.tagName]);
  }
  return found.sort((x, y) => x[0] - y[0]);
})()
"""


def test_the_summary_counts_services_by_the_words_of_their_tiles(browser):
    from test_server import STATE, Served

    one = STATE['services'][0]
    kinds = [
        ('green', 'up', ''),
        ('yellow', 'up', 'x'),
        ('yellow', 'unknown', ''),
        ('red', 'down', 'x'),
        ('none', 'up', ''),
    ]
    services = [
        {**one, 'name': str(i), 'light': light, 'health': health, 'last_error': error}
        for i, (light, health, error) in enumerate(kinds)
    ]
    with Served() as served:
        tab = browser.tab()
        tab.go(f'http://{served.host}/')
        served.show({**STATE, 'services': services})
        tab.wait('document.querySelector("#summary").innerText === "1 down, 1 failed, 1 silent, 1 unknown, 1 up"')
        served.show({**STATE, 'services': services[:1]})
        tab.wait('document.querySelector("#summary").innerText === "it is up"')
        served.show({**STATE, 'services': []})
        tab.wait('document.querySelector("#summary").innerText === "No services are configured."')


def test_who_hears_the_page_is_told_of_services_by_the_words_of_their_tiles(browser):
    from test_server import STATE, Served

    one = STATE['services'][0]
    kinds = [
        ('yellow', 'up', 'x', 'has failed'),
        ('yellow', 'unknown', 'x', 'is silent'),
        ('red', 'down', 'x', 'is down'),
        ('green', 'up', '', 'is up'),
    ]
    with Served() as served:
        tab = browser.tab()
        tab.go(f'http://{served.host}/')
        served.show({**STATE, 'services': [one]})
        tab.wait('document.querySelector("#summary").innerText === "it is up"')
        for light, health, error, said in kinds:
            served.show({**STATE, 'services': [{**one, 'light': light, 'health': health, 'last_error': error}]})
            tab.wait(f'document.querySelector("#said").textContent === "{one["name"]} {said}."')


def test_the_sound_is_off_until_somebody_wants_it_and_an_alarm_is_heard_then(browser):
    from test_server import STATE, Served

    state = json.loads(json.dumps(STATE))
    with Served() as served:
        served.show(state)
        tab = browser.tab()
        tab.send('Page.addScriptToEvaluateOnNewDocument', source="""
            window.tones = 0; const start = OscillatorNode.prototype.start;
            OscillatorNode.prototype.start = function (...a) { window.tones += 1; return start.apply(this, a); };
        """)  # fmt: skip
        tab.go(f'http://{served.host}/')
        served.show(state)
        tab.wait(FRESH)
        assert tab.text('#sound') == 'Sound is off'
        alarm = {'id': '1', 'title': 'cameras is lost', 'text': 'x', 'wall': state['now'], 'over': ''}
        served.show(state | {'alarms': [alarm]})
        tab.wait('!document.querySelector("#alarm").hidden')
        assert tab.ask('window.tones') == 0
        tab.click('#sound')
        tab.wait('document.querySelector("#sound").innerText === "Sound is on"')
        assert tab.ask('document.querySelector("#sound").getAttribute("aria-pressed")') == 'true'
        tab.wait('window.tones > 3')
        tab.click('#seen')
        tab.wait('document.querySelector("#alarm").hidden')
