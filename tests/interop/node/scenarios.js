'use strict';
/** What scenarios.py asks of every client, with the Node.js one. */
const { readFile } = require('node:fs/promises');
const { setTimeout: pause } = require('node:timers/promises');
const { open, BridgeError, CODES, clockNs, errorText } = require('./iblbridge');

const MINUTE = 60000;
const say = (value) => console.log(JSON.stringify(value));
const first = ({ data }) => data.value?.[0] ?? '';

/** The error of a promise, or of a function. */
async function failure(command) {
    try {
        await (typeof command === 'function' ? command() : command);
    } catch (error) {
        return error;
    }
    throw new Error('there was no error');
}

async function sayError(command) {
    const { code, name, message, request, response } = await failure(command);
    say([code, name, message, request, response?.services.map((s) => [s.name, s.ok, s.state, first(s)]) ?? null]);
}

const scenarios = {
    codes() {
        const codes = Array.from({ length: 19999 }, (_, i) => i - 9999).filter(errorText);
        say(Object.fromEntries(codes.map((code) => [code, new BridgeError(code, '').name])));
    },

    async errors(segment) {
        const rig = await open(segment, 'errors');
        await sayError(rig.call('EXPSTART', ['2026-01-01_1_Mäuschen→x🐭']));
        await sayError(rig.call('PING', [], { services: ['né🐭'] }));
        await sayError(rig.wait(12345));
        await sayError(open('nowhere', '', { timeout: 0 }));
        rig.close();
    },

    async reasons(segment) {
        const rig = await open(segment, 'reasons');
        const { response } = await failure(rig.call('EXPINIT'));
        say(response.services.map(({ name, reason, status }) => [name, reason, status]));
        rig.close();
    },

    async surface(segment) {
        const rig = await open(segment);
        rig.subscribe('EXPINTERRUPT');
        const { alive, services } = rig.workerState();
        say([alive, services]);
        let response = await rig.call('EXPSTATUS', [], { services: ['ephys'] });
        say([response.message, response.code, response.services.map(({ name }) => name)]);
        const before = clockNs();
        response = await rig.wait(rig.send('EXPSTART', ['2026-01-01_1_subject'], { ttl: MINUTE }));
        const [, ephys] = response.services;
        const stamps = [before, response.sent, response.accepted, ephys.sent, ephys.echoed, ephys.answered, response.finished, clockNs()];
        say(stamps.every((stamp, i) => i === 0 || stamp >= stamps[i - 1]) && response.wall.length > 20);
        for await (const { event, service, sequence } of rig.events()) {
            say([event, 16, service, sequence]);
            break;
        }
        say((await rig.nextEvent(1)) === null);
        rig.notify('EXPEND');
        say('notified');
        rig.close();
    },

    async large(segment) {
        const rig = await open(segment, 'large');
        const reference = 'é'.repeat(4000);
        const whole = ({ services }) => services.filter((service) => first(service) === reference).length;
        const called = whole(await rig.call('EXPSTART', [reference]));
        say([called, whole(await rig.wait(rig.send('EXPSTART', [reference])))]);
        rig.close();
    },

    /** A choice of nothing is all events, and 0 is none. */
    async everything(segment) {
        const rig = await open(segment);
        rig.subscribe();
        await rig.call('EXPINIT');
        say((await rig.nextEvent(MINUTE)).event);
        rig.subscribe(0);
        rig.close();
        say('closed');
    },

    async exact(segment) {
        const rig = await open(segment);
        const numbers = [2n ** 53n + 1n, -(2n ** 53n) - 1n, 2n ** 63n - 1n, -(2n ** 63n), 2n ** 64n - 1n, Number.MAX_SAFE_INTEGER];
        const response = await rig.call('EXPINIT', [numbers]);
        const [{ data, sent }] = response.services;
        say(data.value.map(String));
        say(typeof sent === 'number' && typeof response.finished === 'number' && typeof data.value[0] === 'bigint' && data.value[5] === numbers[5]);
        rig.close();
    },

    async many(segment) {
        const rig = await open(segment, 'many');
        const references = Array.from({ length: 40 }, (_, i) => `many-${i}`);
        const answers = await Promise.all(references.map((reference) => rig.call('EXPSTART', [reference], { timeout: MINUTE })));
        say(answers.flatMap(({ services }, i) => services.filter((service) => first(service) === references[i])).length);
        rig.close();
    },

    async cancel(segment) {
        const rig = await open(segment, 'cancel');
        const abort = new AbortController();
        const options = { timeout: MINUTE, signal: abort.signal };
        const calls = Array.from({ length: 4 }, () => rig.call('EXPINIT', [], options)); // there is no thread for them all
        await pause(20);
        abort.abort();
        const errors = await Promise.all([...calls, rig.call('EXPINIT', [], { signal: abort.signal })].map(failure));
        const request = rig.send('EXPINIT');
        const waiting = failure(rig.wait(request, { timeout: MINUTE }));
        await pause(20);
        rig.cancel(request);
        errors.push(await waiting);
        const names = errors.map(({ name }) => name).join();
        say(names === `${'AbortError,'.repeat(5)}IBLB_E_CANCELLED` ? 'cancelled' : names);
        say((await rig.call('PING')).code);
        rig.close();
    },

    async late(segment) {
        const rig = await open(segment, 'late');
        for (let i = 0; i < 2; i++) {
            const error = await failure(rig.call('EXPINIT', [], { timeout: 300 }));
            say([error.code, error.request]);
        }
        rig.close();
    },

    async close(segment) {
        const rig = await open(segment, 'close');
        const request = rig.send('EXPINIT');
        const waits = [failure(rig.wait(request, { timeout: MINUTE })), failure(rig.nextEvent(MINUTE))];
        const events = rig.events();
        const ended = events.next(); // and this one looks, for there is no thread for it
        await pause(20);
        rig.close();
        rig.close();
        say((await Promise.all(waits)).map(({ code }) => code));
        say((await failure(rig.call('PING'))).code);
        if (!(await ended).done) say('there was an event');
    },

    async slots(segment) {
        let opened = 0;
        for (let i = 0; i < 40; i++) {
            const rig = await open(segment, `slots-${i}`);
            opened += (await rig.call('PING')).code === 0 ? 1 : 0;
            if (i % 2 && Symbol.dispose) rig[Symbol.dispose]();
            else rig.close();
        }
        say(opened);
    },

    async death(segment) {
        const rig = await open(segment, 'death');
        const request = rig.send('EXPINIT', [], { ttl: -1 });
        say(request);
        const lost = await failure(rig.wait(request, { timeout: MINUTE }));
        say([lost.code, lost.name, lost.request]);
        say((await failure(rig.nextEvent(MINUTE))).code);
        while (!rig.workerState().alive) await pause(5);
        const unknown = await failure(rig.wait(request, { timeout: MINUTE }));
        say([unknown.code, unknown.request]);
        rig.close();
    },

    async killed(segment) {
        const rig = await open(segment, 'killed');
        say('calls');
        const { code, message, request } = await failure(rig.call('EXPINIT', [], { timeout: MINUTE }));
        say([code, message, request]);
        rig.close();
    },

    async alone(segment) {
        const rig = await open(segment, 'alone', { timeout: 100 });
        say([rig.warning, rig.workerState().alive]);
        const error = await failure(rig.call('EXPSTART', ['2026-01-01_1_subject'], { timeout: MINUTE }));
        say([error.code, error.request]);
        while (!rig.workerState().alive) await pause(5);
        say((await rig.call('EXPINIT')).code);
        rig.close();
    },

    /** Ten waits, of two clients, and what else needs libuv's threads. */
    async starve(segment) {
        const rigs = [await open(segment, 'one'), await open(segment, 'two')];
        const waits = Array.from({ length: 10 }, (_, i) => rigs[i % 2].call('EXPINIT', [], { timeout: 100 * MINUTE }));
        let files = 0;
        const answered = Promise.race(waits).catch(() => {});
        const read = (async () => {
            for (; files < 20; files++) await readFile(__filename);
        })();
        await Promise.race([read, answered]);
        say(files);
        for (const rig of rigs) rig.close();
        say((await Promise.allSettled(waits)).filter(({ reason }) => reason?.code === CODES.IBLB_E_CLOSED).length);
    },

    /** Clients that nobody closes, and nobody has any more. */
    async forget(segment) {
        let opened = 0;
        while (opened < 40) {
            await (await open(segment, `forgotten-${opened}`)).call('PING');
            opened++;
            await pause(1); // the collector's turn, and the registry's after it
            globalThis.gc();
            await pause(1);
        }
        say(opened);
    },

    async negative(segment) {
        const rig = await open(segment, 'negative');
        const names = [];
        const before = rig.send('PING');
        for (const timeout of [-1, NaN, '5s', null]) {
            names.push(await failure(rig.call('EXPSTART', [], { timeout })), await failure(rig.wait(1, { timeout })));
            names.push(await failure(rig.nextEvent(timeout)), await failure(open(segment, 'other', { timeout })));
            if (timeout !== -1) names.push(await failure(() => rig.send('EXPSTART', [], { ttl: timeout }))); // -1: no limit
        }
        say([...names, await failure(rig.nextEvent())].map(({ name }) => name));
        say(rig.send('PING') - before - 1);
        rig.close();
    },

    /** What is wrong in a way that C, or JSON, would not tell. */
    async misuse(segment) {
        const rig = await open(segment, null);
        const [start, signal] = [(...more) => () => rig.call('EXPSTART', ...more), AbortSignal.abort()];
        const refused = async (...calls) => say((await Promise.all(calls.map(failure))).map(({ name }) => name));
        const before = rig.send('PING');
        await refused(
            start([], { service: ['cameras'] }), start([], { ttl: 5 }), start([], ['cameras']), start([], 'cameras'), start([], null),
            () => rig.send('EXPSTART', [], { timeout: 5 }), () => rig.notify('EXPSTART', [], { signal }), () => rig.wait(1, 5000),
            () => rig.nextEvent(0, { timeout: 5 }), () => open(segment, 'other', 2000), () => open(segment, { client: 'other' }),
            () => rig.events({ timeout: 5 }).next(), start([], { signal: 5 }), start([], { signal: {} }),
        );
        await refused(
            () => open(segment, 5), () => open(5), () => open(), () => open(null), () => open('rig0\0', 'other'),
            start([], { services: [5] }), start([], { services: [] }), start([], { services: 5 }), start([], { services: [''] }), start([], { services: ' ' }),
            start([], { services: [undefined] }), start([], { services: ['cameras\0'] }), start('2026-01-01_1_subject'), start(5), start(null),
            () => rig.call('EXPSTARTED'), () => rig.call('toString'), () => rig.call(2.5), () => rig.call(2 ** 32 + 2), () => rig.call(),
            () => rig.subscribe('EXPINTERRUPT', 'SERVICE_GONE'), () => rig.wait('1'), () => rig.cancel(), () => rig.withdraw({}),
        );
        const endless = [];
        endless.push(endless);
        const lost = [undefined, Symbol('x'), () => 1, NaN, -Infinity, new Date(NaN), new Map([[1, 2]]), Promise.resolve(1), new Float64Array(1)];
        await refused(...[...lost, ...lost.map((value) => [value]), ...lost.slice(1).map((note) => ({ note })), endless].map((x) => start([x])));
        say(rig.send('PING') - before - 1);
        await sayError(rig.call('EXPSTART', ['x'.repeat(3 << 20)])); // more than koffi keeps ready for texts
        await sayError(rig.call('EXPSTART', [{ half: '\ud800' }], { timeout: Infinity }));
        rig.subscribe(['EXPINTERRUPT', 'SERVICE_DOWN']);
        const plain = [{ date: new Date(0), none: undefined, list: [1.5, true, null, Object.create(null)], name: new String('x') }];
        const { services } = await rig.call('EXPINIT', plain, { services: 'cameras', signal: null, timeout: undefined });
        say(services[0].state);
        rig.close();
    },
};

scenarios[process.argv[2]](process.argv[3]);
