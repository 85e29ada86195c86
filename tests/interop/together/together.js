'use strict';
/* together.js: one of several programs on one segment. SEGMENT CLIENT COUNT
 *
 * Subscribes to EXPINTERRUPT and says "ready"; starts experiments <CLIENT>-0, -1, ... and counts the answers that are its own, from both
 * services; waits for an event and says who sent it. */
const { open } = require('./iblbridge');

async function main(segment, client, count) {
    const rig = await open(segment, client, { timeout: 5000 });
    rig.subscribe('EXPINTERRUPT');
    console.log('ready');
    let right = 0;
    for (let i = 0; i < Number(count); i++) {
        const { services } = await rig.call('EXPSTART', [`${client}-${i}`], { timeout: 20000 });
        if (services.length === 2 && services.every(({ data }) => data.value[0] === `${client}-${i}`)) right++;
    }
    const event = await rig.nextEvent(10000);
    if (!event) throw new Error('There was no event.');
    console.log(`${client} ${right} ${event.service}`);
    rig.close();
}

main(...process.argv.slice(2)).catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
});
