// Shows what the server sends. What services and programs say is put in as text, never as markup.

import * as words from './words.js';

const STALE = 3000; // ms without a state, after which what is shown is no more than a memory
const MUTE = 8000; // ms after which a connection that is said to be open is given up
const SHAPES = {
  green: 'M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20Zm-1.6 14.6-4.5-4.5 2-2 2.5 2.5 5.7-5.7 2 2Z',
  yellow: 'M12 1.5 23.5 22H.5ZM10.8 8v7h2.4V8Zm0 8.6V19h2.4v-2.4Z',
  red: 'M7.6 1.5h8.8l6.1 6.1v8.8l-6.1 6.1H7.6l-6.1-6.1V7.6Zm.2 4.3-2 2L10 12l-4.2 4.2 2 2L12 14l4.2 4.2 2-2L14 12l4.2-4.2-2-2L12 10Z',
  none: 'M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20Zm0 3a7 7 0 1 1 0 14 7 7 0 0 1 0-14Zm-3.5 5.5v3h7v-3Z',
};
const $ = (id) => document.getElementById(id);
const segment = document.body.dataset.segment;
const shown = new Map(); // what each part was made of, so that nothing is made anew in vain
const begun = performance.now();

let state = null; // the last one
let came = 0; // when, ms of performance.now
let lost = false;
let source = null;
let opened = 0;
let pressing = false;
let audio = null;
let own = []; // alarms that only this browser knows
let known = new Map(); // all alarms that it ever saw, as a server that was started anew has forgotten them

// --- small things

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(tag, text = '', name = '') {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  if (name) element.className = name;
  return element;
}

function shape(light) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('fill-rule', 'evenodd');
  path.setAttribute('d', SHAPES[light] ?? SHAPES.none);
  svg.append(path);
  return svg;
}

function changed(part, value) {
  const text = JSON.stringify(value);
  if (shown.get(part) === text) return false;
  shown.set(part, text);
  return true;
}

function stored(name, value) {
  try {
    const key = `iblbridge-${segment}-${name}`;
    if (value === undefined) return JSON.parse(localStorage.getItem(key));
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // a browser that keeps nothing: it forgets when it is closed
  }
  return value ?? null;
}

let seen = new Set(stored('seen') ?? []);
let sound = stored('sound') === true;

// --- the connection

function connect() {
  source?.close();
  opened = performance.now();
  source = new EventSource('/api/events');
  source.onmessage = (message) => take(JSON.parse(message.data));
}

function take(next) {
  const before = lost ? null : state;
  state = next;
  came = performance.now();
  lost = false;
  own = own.map((alarm) => (alarm.over || alarm.kind !== 'lost' ? alarm : { ...alarm, over: state.now }));
  const said = words.changes(before, next);
  if (said.length) put($('said'), said.join(' '));
  draw();
}

function watch() {
  const now = performance.now();
  if (now - (came || begun) > STALE && !lost) {
    lost = true;
    if (state?.experiment.running) {
      const text = 'This page does not know what became of the recording.';
      const wall = new Date().toISOString();
      own.push({ id: `lost-${wall}`, kind: 'lost', title: 'No connection to the worker', text, wall, over: '' });
    }
  }
  if (source.readyState === EventSource.CLOSED ? now - opened > 2000 : now - Math.max(came, opened) > MUTE) connect();
  draw();
}

// --- the parts

function draw() {
  const late = came ? (performance.now() - came) / 1000 : 0;
  const dark = lost || !state;
  document.body.className = lost ? 'lost' : state ? '' : 'waiting';
  put($('clock'), words.clock(new Date()));
  drawTrouble(late);
  if (state) {
    put($('summary'), dark ? 'not known' : words.summary(state));
    drawExperiment(late);
    drawTiles($('services'), state.services, late, serviceTile);
    $('listening').hidden = !state.listeners.length;
    drawTiles($('listeners'), state.listeners, late, listenerTile);
    drawCommands();
    drawEvents();
    drawPrograms();
  }
  drawButton();
  drawAlarms();
}

function drawTrouble(late) {
  let trouble = null;
  if (lost) {
    const when = came ? `since ${words.clock(new Date(Date.now() - late * 1000))}` : '';
    trouble = [`No connection to the worker ${when}`, 'It has ended, or the network has. What you see is old.'];
  } else if (state) trouble = words.worker(state);
  $('lost').hidden = !trouble;
  if (trouble) {
    put($('lost-head'), trouble[0].trim());
    put($('lost-text'), trouble[1]);
  }
}

function drawExperiment(late) {
  const one = state.experiment;
  const running = one.running && !lost;
  $('experiment').dataset.running = String(running);
  put($('experiment-head'), running ? 'Recording' : one.running ? 'Was recording' : 'No recording');
  const ended = one.ended ? `last: ${one.exp_ref || 'without a reference'}` : 'none since this page was started';
  put($('reference'), one.running ? one.exp_ref || 'without a reference' : ended);
  let took = '';
  if (running && one.took_s !== null) took = `${one.started_seen ? '' : '≥ '}${words.running(one.took_s + late)}`;
  else if (one.ended) took = `${words.long(one.took_s ?? 0)}, ended ${words.clock(one.ended)}`;
  put($('took'), took);
}

function drawTiles(list, all, late, tile) {
  const names = all.map((one) => one.name);
  if (changed(list.id, names)) list.replaceChildren(...all.map(emptyTile));
  all.forEach((one, i) => tile(list.children[i], one, late));
}

function emptyTile(one) {
  const item = make('li', '', 'tile');
  const head = make('h3', one.name);
  const facts = make('dl');
  item.append(make('span', '', 'shape'), head, make('p', '', 'word'), make('p', '', 'doing'), facts, make('p', '', 'error'));
  return item;
}

function fill(item, light, word, doing, facts, error) {
  if (item.dataset.light !== light) {
    item.dataset.light = light;
    item.querySelector('.shape').replaceChildren(shape(light));
  }
  put(item.querySelector('.word'), word);
  put(item.querySelector('.doing'), doing);
  put(item.querySelector('.error'), error);
  item.querySelector('.error').hidden = !error;
  const list = item.querySelector('dl');
  if (list.children.length !== facts.length) {
    list.replaceChildren(...facts.map(() => {
      const pair = make('div');
      pair.append(make('dt'), make('dd'));
      return pair;
    }));
  }
  facts.forEach(([name, value], i) => {
    put(list.children[i].children[0], name);
    put(list.children[i].children[1], value);
  });
}

function serviceTile(item, one, late) {
  const light = lost ? 'none' : one.light;
  const [word, past] = words.how(one, lost);
  const facts = [
    [past.startsWith('was') ? past : `${past} since`, words.since(one, late)],
    ['heard', words.heard(one.age_ms, late)],
    ['round trip', words.trip(one.rtt_us)],
  ];
  if (one.exp_ref && one.exp_ref !== state.experiment.exp_ref) facts.push(['experiment', one.exp_ref]);
  if (one.failures) facts.push(['failed', `${one.failures} command${one.failures === 1 ? '' : 's'}`]);
  fill(item, light, word, words.doing(one, light !== 'red' && light !== 'none'), facts, one.last_error);
}

function listenerTile(item, one, late) {
  const light = lost ? 'none' : one.light;
  const facts = [
    ['served by', one.client ? `${one.client} (${one.pid})` : 'nobody: masters get an error'],
    ['asked', words.heard(one.age_ms, late)],
    ['masters', one.masters.length ? one.masters.join(', ') : 'none'],
  ];
  if (one.refused) facts.push(['strangers', `${one.refused} refused`]);
  if (one.exp_ref) facts.push(['experiment', one.exp_ref]);
  const word = { green: 'SERVED', red: 'NOBODY' }[light] ?? words.LIGHTS.none;
  fill(item, light, word, one.status_name, facts, '');
}

function drawCommands() {
  if (!changed('commands', [state.commands, state.services.map((one) => one.name)])) return;
  const none = make('li', 'none since this page was started', 'none');
  const items = state.commands.map(commandItem).reverse();
  $('commands').replaceChildren(...(items.length ? items : [none]));
}

function commandItem(one) {
  const item = make('li', '', 'command');
  item.dataset.result = one.result.replace(' ', '-');
  const head = make('p', '', 'head');
  const took = one.took_ms === null ? '' : ` in ${one.took_ms} ms`;
  head.append(make('time', words.clock(one.wall)), make('strong', one.message), make('span', `${one.result}${took}`, 'result'));
  item.append(head);
  const who = [one.argument, one.client && `by ${one.client}`, one.to && `to ${one.to.split(',').join(', ')}`].filter(Boolean).join(' · ');
  if (who) item.append(make('p', who, 'who'));
  const chips = make('ul', '', 'chips');
  const done = new Map(one.services.map((service) => [service.name, service]));
  const names = new Set([...words.addressed(one, state), ...done.keys()]);
  for (const name of names) {
    const service = done.get(name);
    if (!service && one.finished) continue;
    const mark = service ? (service.ok ? '✓' : '✕') : '…';
    const ms = service?.took_ms == null ? '' : ` ${service.took_ms} ms`;
    const chip = make('li', `${mark} ${name}${ms}`, service ? (service.ok ? 'ok' : 'failed') : 'open');
    chip.append(make('span', service ? (service.ok ? ' did it' : ' failed') : ' has not answered yet', 'unseen'));
    chips.append(chip);
  }
  if (chips.children.length) item.append(chips);
  if (one.error) item.append(make('p', `${one.error}`, 'error'));
  return item;
}

const BAD = ['SERVICE_DOWN', 'CLIENT_LOST', 'EXPERIMENT_LOST', 'EXPINTERRUPT'];

function drawEvents() {
  if (!changed('events', state.events)) return;
  const items = state.events.map((one) => {
    const item = make('li', '', BAD.includes(one.event) ? 'event bad' : 'event');
    const head = make('p', '', 'head');
    head.append(make('time', words.clock(one.wall)), make('strong', one.event.replace('_', ' ')));
    head.append(make('span', one.service || one.client));
    item.append(head);
    if (one.said) item.append(make('p', one.said, 'who'));
    return item;
  });
  $('events').replaceChildren(...(items.length ? items.reverse() : [make('li', 'nothing since this page was started', 'none')]));
}

function drawPrograms() {
  const brief = state.programs.map((one) => [one.client, one.alive, one.pending, one.process, one.pid]);
  if (changed('programs', brief)) {
    const items = state.programs.map((one) => {
      const item = make('li', '', one.alive ? 'event' : 'event bad');
      const said = [`${one.process || 'process'} ${one.pid}`, one.alive ? '' : 'gone', one.pending ? `${one.pending} commands wait` : ''];
      const head = make('p', '', 'head');
      head.append(make('strong', one.client), make('span', said.filter(Boolean).join(', ')));
      item.append(head);
      return item;
    });
    $('programs').replaceChildren(...(items.length ? items : [make('li', 'none is attached', 'none')]));
  }
  if (changed('findings', state.findings)) {
    $('findings').replaceChildren(...state.findings.map((finding) => make('li', finding)));
    $('findings').hidden = !state.findings.length;
  }
}

// --- the button

function drawButton() {
  const usable = state && !lost && state.worker.state === 'serving' && !pressing;
  $('interrupt').disabled = !usable;
  if (!usable && $('confirm').open && !pressing) $('confirm').close();
}

function confirm() {
  const names = state.services.map((one) => one.name).join(', ');
  const recording = state.experiment.running ? `${state.experiment.exp_ref || 'The recording'} ends. ` : '';
  put($('confirm-text'), `${recording}All services are told to stop at once: ${names || 'there are none'}.`);
  $('confirm').showModal();
}

async function press() {
  $('confirm').close();
  pressing = true;
  put($('pressed'), 'EXPINTERRUPT is sent …');
  drawButton();
  try {
    const token = document.querySelector('meta[name=press]').content;
    const answer = await fetch('/api/interrupt', { method: 'POST', headers: { 'X-Iblbridge-Press': token } });
    if (!answer.ok) throw new Error(await answer.text());
    const body = await answer.json();
    const done = body.services.filter((one) => one.ok).map((one) => one.name).join(', ');
    put($('pressed'), body.code || !body.sent ? `EXPINTERRUPT: ${body.error}` : `EXPINTERRUPT: done by ${done || 'nobody'}.`);
  } catch (error) {
    put($('pressed'), `EXPINTERRUPT: it is not known whether it was sent. ${error.message}`);
  } finally {
    pressing = false;
    drawButton();
  }
}

// --- the alarm

function drawAlarms() {
  for (const alarm of [...(state?.alarms ?? []), ...own]) known.set(alarm.id, alarm);
  const open = [...known.values()].filter((alarm) => !seen.has(alarm.id));
  $('alarm').hidden = !open.length;
  if (changed('alarms', open)) {
    $('alarms').replaceChildren(...open.map((alarm) => {
      const item = make('li');
      item.append(make('strong', alarm.title), make('span', `at ${words.clock(alarm.wall)}`));
      if (alarm.text) item.append(make('p', alarm.text));
      if (alarm.over) item.append(make('p', `It is back since ${words.clock(alarm.over)}.`));
      return item;
    }));
  }
  const name = state?.experiment.running && !lost ? `● ${segment}` : segment;
  const blink = Math.floor(Date.now() / 1000) % 2 === 0;
  document.title = open.length ? (blink ? `⚠ ALARM ${segment}` : open[0].title) : lost ? `✕ ${segment}: no connection` : name;
  beep(open.length > 0);
}

function acknowledge() {
  for (const id of known.keys()) seen.add(id);
  own = own.filter((alarm) => !alarm.over);
  stored('seen', [...seen].slice(-200));
  drawAlarms();
  $('interrupt').focus();
}

function drawSound() {
  $('sound').setAttribute('aria-pressed', String(sound));
  const allowed = audio?.state === 'running';
  put($('sound'), !sound ? 'Sound is off' : allowed ? 'Sound is on' : 'Sound: click to allow');
}

async function toggleSound() {
  const allowed = audio?.state === 'running';
  sound = sound && !allowed ? true : !sound;
  stored('sound', sound);
  if (sound) {
    audio ??= new AudioContext();
    await audio.resume();
    tone(660, 0, 0.08); // so that one hears that it works
  }
  drawSound();
}

let beeped = 0;

function beep(wanted) {
  if (!wanted || !sound || audio?.state !== 'running' || performance.now() - beeped < 1200) return;
  beeped = performance.now();
  tone(880, 0, 0.25);
  tone(660, 0.3, 0.25);
}

function tone(pitch, after, seconds) {
  const source = audio.createOscillator();
  const volume = audio.createGain();
  source.type = 'square';
  source.frequency.value = pitch;
  volume.gain.value = 0.15;
  source.connect(volume).connect(audio.destination);
  source.start(audio.currentTime + after);
  source.stop(audio.currentTime + after + seconds);
}

// --- the beginning

$('interrupt').addEventListener('click', confirm);
$('no').addEventListener('click', () => $('confirm').close());
$('yes').addEventListener('click', press);
$('seen').addEventListener('click', acknowledge);
$('sound').addEventListener('click', toggleSound);
window.addEventListener('storage', () => {
  seen = new Set([...seen, ...(stored('seen') ?? [])]); // another tab of this browser
});
document.addEventListener('visibilitychange', watch); // a hidden tab has few timers
window.addEventListener('pageshow', watch);
drawSound();
connect();
setInterval(watch, 250);
