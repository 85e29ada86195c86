'use strict';
/** What test_cameras.py asks of every kit that serves, with the Node.js one. */
const { setTimeout: pause } = require('node:timers/promises');
const { open, clockNs } = require('./iblbridge');

const say = (value) => console.log(JSON.stringify(value));

/** Whether it throws. */
function refused(call) {
    try {
        call();
    } catch {
        return true;
    }
    return false;
}

const scenes = {
    async show(rig) {
        const before = clockNs();
        for await (const { command, time, wall, ...shown } of endless(rig)) {
            say({ ...shown, stamps: before < time && time <= clockNs() && !Number.isNaN(Date.parse(wall)) && command > 0 });
        }
    },

    async leave(rig) {
        const taken = [];
        for await (const command of rig.serve('cameras')) {
            taken.push(command.message);
            if (taken.length < 2) continue;
            command.answer();
            say(taken);
        }
    },

    async attempt(rig) {
        for await (const command of rig.serve()) {
            const code = await command.attempt(async ({ message }) => {
                await pause(1);
                if (message === 'EXPSTART') throw new Error('the lens is gone 🐭');
                return 5;
            });
            say([command.error?.message ?? '', code]);
        }
    },

    async throw(rig) {
        try {
            for await (const { message } of rig.serve('cameras')) throw new Error('the lens is gone', { cause: message });
        } catch (error) {
            say(error.message);
        }
        await pause(60000);
    },

    /** The event loop turns while it waits for a command, and while that is in hand. */
    async late(rig) {
        let turns = 0;
        setInterval(() => turns++, 10);
        setTimeout(say, 200, 'serving');
        for await (const command of rig.serve('cameras')) {
            if (command.message === 'EXPSTART') {
                const before = turns;
                while (turns < before + 50) await pause(10);
            }
            say(command.answer());
        }
    },

    async close(rig) {
        for await (const command of rig.serve('cameras')) {
            setTimeout(() => rig.close(), 10);
            const code = await command.attempt(() => pause(60000, undefined, { signal: command.signal }));
            say([code, command.error !== undefined]);
        }
        say('over');
    },

    async busy(rig) {
        for await (const command of rig.serve('cameras')) {
            say(command.message);
            if (command.message === 'EXPSTART') {
                while (!command.signal.aborted) await pause(1);
                say('interrupted');
            }
            command.answer();
        }
    },

    async wrong(rig) {
        for await (const command of rig.serve('cameras', ['EXPSTART', 4], { signal: new AbortController().signal })) {
            const wrong = [
                () => command.answer(NaN), () => command.answer({ x: undefined }, { state: 'RUNNING' }), () => command.answer(1, { status: 'RUNS' }),
                () => command.answer(1, { status: 5 }), () => command.answer(1, 'RUNNING'), () => command.answer('x'.repeat(70000)),
                () => command.fail(), () => command.fail('a\0b'), () => rig.tell('EXPSTART'), () => rig.tell('EXPSTATUS'), () => rig.tell('NOTHING'),
                () => rig.tell('EXPINFO', new Map()),
            ]; // prettier-ignore
            const results = wrong.map(refused);
            for (const more of [['cameras', []], ['cameras', 0], ['cameras', 'EXPSTART'], ['cameras', ['START']], [5], ['cameras', ['PING']], ['ephys']])
                results.push(await rig.serve(...more).next().then(() => false, () => true));
            command.answer({ done: true });
            results.push(refused(() => command.answer()));
            say(results.length);
            say(results);
        }
    },

    async stop(rig) {
        const stop = new AbortController();
        try {
            for await (const command of rig.serve('cameras', undefined, { signal: stop.signal })) {
                command.answer();
                stop.abort();
            }
        } catch (error) {
            say(error.name === 'AbortError' ? 'stopped' : error.name);
        }
        await pause(60000);
    },
};

/** Answers every command, and waits for what overtakes it if there is something. */
async function* endless(rig) {
    for await (const command of rig.serve('cameras')) {
        yield { ...command, code: undefined, error: undefined };
        command.answer({ file: 'é.avi' }, { status: 'CONNECTED' });
    }
}

open('rig0', 'program').then((rig) => scenes[process.argv[2]](rig));
