/** ends.js: what test_ends.py asks of every client, with the one for Node.js. */
'use strict';
const { setImmediate: soon } = require('node:timers/promises');
const { open, use } = require('./iblbridge');

async function main() {
    (await open('rig0', 'closed')).close();
    if ((await use('rig0', 'closed', (rig) => rig.call('PING'))).code) throw new Error('use loses what the work returns');
    (await open('rig0', 'abandoned')).abandon();
    await use('rig0', 'thrown', async () => {
        throw new Error('stop');
    }).catch(() => {});
    await (async () => {
        await open('rig0', 'forgotten');
    })();
    for (let i = 0; i < 10; i++) {
        global.gc();
        await soon();
    }
    await open('rig0', 'left');
    process.exit(0);
}

main();
