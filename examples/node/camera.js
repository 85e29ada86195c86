'use strict';
/**
 * A simulated camera that masters command: your program as a service, in Node.js.
 *
 *     node camera.js SEGMENT [SERVICE [WARM_UP_S [DIES_AFTER_S]]]
 *
 * EXPINIT warms it up, EXPSTART begins a file, EXPEND ends it and says how many frames are in it, EXPINTERRUPT stops it
 * at once, also while it warms up. With DIES_AFTER_S it dies in the middle of a recording, and says so. Ctrl-C ends it.
 * README.md tells how to run it.
 */
const { setTimeout: pause } = require('node:timers/promises');
const { use, BridgeError, CODES } = require('./iblbridge');

const FRAME_MS = 10;

class Camera {
    constructor(warmUp, diesAfter, died) {
        Object.assign(this, { warmUp, diesAfter, died, isWarm: false, frames: 0 });
    }

    /** What masters may ask of it: what it returns is the answer, and what it throws they are told. */
    async obey(command) {
        switch (command.message) {
            case 'EXPINIT':
                await pause(this.warmUp * 1000, undefined, { signal: command.signal }); // an EXPINTERRUPT ends it
                this.isWarm = true;
                return undefined;
            case 'EXPSTART':
                return this.start(command.args[0]);
            default: // EXPEND, EXPINTERRUPT, EXPCLEANUP
                this.stop();
                return { frames: this.frames };
        }
    }

    start(reference) {
        if (!this.isWarm) throw new Error('The camera is cold. Send EXPINIT first.');
        this.stop();
        this.frames = 0;
        this.recording = setInterval(() => this.frames++, FRAME_MS);
        if (this.diesAfter) this.death = setTimeout(() => this.die(), this.diesAfter * 1000);
        return { file: `${reference}.avi` };
    }

    stop() {
        clearInterval(this.recording);
        clearTimeout(this.death);
    }

    die() {
        this.stop();
        this.isWarm = false;
        this.died({ why: 'The camera died.', frames: this.frames });
    }
}

/** What became of a command. */
function outcome({ code, error }) {
    if (code === CODES.IBLB_E_LATE) return 'too late, its master was told that it failed';
    if (code === CODES.IBLB_E_CLOSED) return 'failed, for the camera was ended';
    return error ? `failed, ${error.message}` : 'done';
}

async function main(segment, service = '', warmUp = 0.1, diesAfter = 0) {
    if (!segment) {
        console.error('usage: node camera.js SEGMENT [SERVICE [WARM_UP_S [DIES_AFTER_S]]]');
        return 2;
    }
    try {
        await use(segment, 'camera', async (rig) => {
            process.once('SIGINT', () => rig.close()); // which ends the loop
            const camera = new Camera(warmUp, diesAfter, (what) => rig.tell('EXPINTERRUPT', what));
            console.log(`serving ${service || 'the listener'} at ${segment}`);
            for await (const command of rig.serve(service)) {
                console.log(`${command.message} from ${command.master}`);
                await command.attempt(() => camera.obey(command));
                console.log(`${command.message}: ${outcome(command)}`);
            }
            camera.stop();
        });
        return 0;
    } catch (error) {
        if (!(error instanceof BridgeError)) throw error;
        console.error(`${error.message} (${error.code})`);
        return 1;
    }
}

main(...process.argv.slice(2)).then((status) => {
    process.exitCode = status;
});
