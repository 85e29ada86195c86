// What the page says of a state: functions of values. Nothing here knows the document.

export const LIGHTS = { green: 'UP', yellow: 'SILENT', red: 'DOWN', none: 'UNKNOWN' };

const WORKER = {
  none: ['No worker', 'Nobody serves this rig. Commands wait for a worker, and expire.'],
  stopped: ['The worker is stopped', 'Somebody has stopped its process: nothing is passed on.'],
  silent: ['The worker is silent', 'It has said nothing for 15 s: what you see may be old.'],
};

/** Say how long, for people: "8 s", "12 min", "3 h 05 min", "2 d 4 h". */
export function long(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  const pad = (n) => String(n).padStart(2, '0');
  if (s < 86400) return `${Math.floor(s / 3600)} h ${pad(Math.floor((s % 3600) / 60))} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** Say how long as a clock that runs: "0:00:08". */
export function running(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const pad = (n) => String(n).padStart(2, '0');
  return `${Math.floor(s / 3600)}:${pad(Math.floor((s % 3600) / 60))}:${pad(s % 60)}`;
}

/** Say when: the time, and the date if it is not today's; "" if it is no moment. */
export function clock(wall, now = new Date()) {
  const when = new Date(wall);
  if (Number.isNaN(when.getTime())) return '';
  const pad = (n) => String(n).padStart(2, '0');
  const time = `${pad(when.getHours())}:${pad(when.getMinutes())}:${pad(when.getSeconds())}`;
  const day = `${when.getFullYear()}-${pad(when.getMonth() + 1)}-${pad(when.getDate())}`;
  return when.toDateString() === now.toDateString() ? time : `${day} ${time}`;
}

/** Say since when: a change that was not seen is older than the page. */
export function since(what, late) {
  if (!what.since) return '';
  return what.since_seen ? `${clock(what.since)} · ${long(what.since_s + late)}` : `before ${clock(what.since)}`;
}

/** Say how a service is, in one word, and what it was if nobody knows: [word, past]. */
export function how(service, lost) {
  const health = { up: 'UP', down: 'DOWN' }[service.health] ?? 'SILENT';
  if (lost || service.light === 'none') return [LIGHTS.none, `was ${health.toLowerCase()}`];
  return [service.light === 'yellow' && health === 'UP' ? 'FAILED' : health, health.toLowerCase()];
}

/** Say what a service is doing. */
export function doing(service, known) {
  if (!service.status_name) return 'status not known';
  const when = service.status_since ? ` since ${service.status_since_seen ? '' : 'before '}${clock(service.status_since)}` : '';
  return known ? `${service.status_name}${when}` : `was ${service.status_name}`;
}

/** Say when something was heard. */
export const heard = (ms, late) => (ms < 0 ? 'never' : `${long(ms / 1000 + late)} ago`);

/** Say how long a message took there and back. */
export const trip = (us) => (us > 0 ? `${(us / 1000).toFixed(1)} ms` : '–');

/** Say what is wrong with the worker: [head, text], or null. */
export const worker = (state) => WORKER[state.worker.state] ?? null;

/** Count services and listeners by how they are, as a sentence. */
export function summary(state) {
  const served = state.listeners.map((one) => LIGHTS[one.light]);
  const all = [...state.services.map((one) => how(one, false)[0]), ...served];
  if (!all.length) return 'No services are configured.';
  if (all.every((word) => word === 'UP')) return all.length === 1 ? 'it is up' : 'all are up';
  const counts = ['DOWN', 'FAILED', 'SILENT', 'UNKNOWN', 'UP'].map((word) => [all.filter((one) => one === word).length, word]);
  return counts.filter(([count]) => count).map(([count, word]) => `${count} ${word.toLowerCase()}`).join(', ');
}

/** Return the services that a command is for. */
export const addressed = (command, state) =>
  command.to ? command.to.split(',').map((name) => name.trim()) : state.services.map((service) => service.name);

/** Say what changed between two states, for who hears the page: a list of sentences. */
export function changes(before, after) {
  if (!before) return [];
  const was = new Map(before.services.map((service) => [service.name, how(service, false)[0]]));
  const said = after.services
    .map((service) => [service.name, how(service, false)[0]])
    .filter(([name, word]) => was.has(name) && was.get(name) !== word)
    .map(([name, word]) => (word === 'FAILED' ? `${name} has failed.` : `${name} is ${word.toLowerCase()}.`));
  if (before.experiment.running !== after.experiment.running) {
    said.push(after.experiment.running ? `A recording has begun: ${after.experiment.exp_ref}.` : 'The recording has ended.');
  }
  const ended = new Set(before.commands.filter((one) => one.finished).map((one) => one.command_id));
  for (const one of after.commands.filter((each) => each.finished && !ended.has(each.command_id))) {
    said.push(`${one.message} ${one.result === 'failed' ? 'has failed' : 'is done'}.`);
  }
  return said;
}
