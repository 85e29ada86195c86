'use strict';
/**
 * A whole experiment from Node.js. What an acquisition program does, without the acquisition.
 *
 *     node experiment.js SEGMENT [YYYY-MM-DD_N_SUBJECT [CLIENT]]
 *
 * Prepares and starts all services, watches for a while whether one of them gives up, asks what they do, and ends the
 * experiment. If a service fails, the others are stopped, and it says who failed and why. README.md tells how to build
 * and run it.
 */
const { open, BridgeError } = require('./iblbridge');

const QUESTION_MS = 100; // for a question that is not worth waiting for
const EXPERIMENT_MS = 1000; // how long the animal works

/** What each service did, or what it said of itself. */
function print({ message, services }) {
    for (const { name, state, status, error, data } of services) {
        let words = state;
        if (error) words += `, ${error}`;
        else if (message === 'EXPINFO' && status >= 0) words = `status ${status}, ${data.info?.exp_ref ?? 'no experiment'}`;
        console.log(`  ${name}: ${words}`);
    }
}

/** Says what became of a command. Returns whether the experiment may go on: a warning is for who sits there. */
async function report(name, command) {
    try {
        const response = await command;
        // A warning, such as IBLB_W_STATUS: a service was told EXPEND, and says that it still runs.
        console.log(response.code > 0 ? `${name}: warning (${response.code}): ${response.error}` : `${name}: done`);
        print(response);
        return true;
    } catch (error) {
        if (!(error instanceof BridgeError)) throw error;
        console.log(`${name}: failed (${error.code}): ${error.message}`);
        if (error.response) print(error.response);
        return false;
    }
}

/** Sends a command to all services and waits until each has done it. */
function tell(rig, name, ...args) {
    return report(name, rig.call(name, args));
}

/** Asks something that is given up if the answer takes too long. */
async function ask(rig, name) {
    try {
        return await report(name, rig.call(name, [], { signal: AbortSignal.timeout(QUESTION_MS) }));
    } catch (error) {
        if (error.name !== 'TimeoutError') throw error;
        console.log(`${name}: cancelled`);
        return true;
    }
}

/** Here the animal works; returns early if a service gives up. */
async function watch(rig) {
    try {
        const event = await rig.nextEvent(EXPERIMENT_MS);
        if (event) console.log(`event ${event.event} from ${event.service}`);
    } catch (error) {
        console.log(`event: failed (${error.code}): ${error.message}`);
    }
}

async function experiment(rig, reference) {
    rig.subscribe('EXPINTERRUPT');
    if (!(await tell(rig, 'EXPINIT'))) return false;
    let fine = await tell(rig, 'EXPSTART', reference);
    if (fine) {
        await watch(rig);
        fine = (await ask(rig, 'EXPSTATUS')) && (await tell(rig, 'EXPINFO')) && (await tell(rig, 'EXPEND'));
    }
    if (!fine) {
        await tell(rig, 'EXPINTERRUPT'); // a camera may run, even if no answer came
        return false;
    }
    return tell(rig, 'EXPCLEANUP');
}

async function main(segment, reference = '2026-01-01_1_subject', client = 'experiment') {
    if (!segment) {
        console.error('usage: node experiment.js SEGMENT [YYYY-MM-DD_N_SUBJECT [CLIENT]]');
        return 2;
    }
    let rig;
    try {
        rig = await open(segment, client);
        if (rig.warning) {
            console.error(`${rig.lastError()} (${rig.warning})`);
            return 1;
        }
        return (await experiment(rig, reference)) ? 0 : 1;
    } catch (error) {
        console.error(`${error.message} (${error.code})`);
        return 1;
    } finally {
        rig?.close();
    }
}

main(...process.argv.slice(2)).then((status) => {
    process.exitCode = status;
});
