// The common parts of the checks: calls to the server, waits, and a list of checks
// whose first failure ends the run.

import assert from "node:assert/strict";

export const [url] = process.argv.slice(2);
if (!url) {
  console.error("usage: node FILE URL");
  process.exit(2);
}
export const sockets = url.replace("http", "ws");
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Has the server do an action that no client can do.
export async function server(what, args = {}) {
  const answer = await fetch(`${url}/do?${new URLSearchParams({ what, ...args })}`, { method: "POST" });
  if (!answer.ok) throw new Error(`${what}: ${await answer.text()}`);
}

// Returns the members that an audience must see, from the core.
export const members = async (audience) => (await fetch(`${url}/members?audience=${audience}`)).json();

// Returns a member list without the fields that only clients have.
export function plain(list) {
  const out = {};
  for (const key of Object.getOwnPropertyNames(list).sort()) {
    out[key] = (list[key].metas ?? list[key]).map(({ phx_ref, phx_ref_prev, presence_ref, ...rest }) => rest);
  }
  return JSON.parse(JSON.stringify(out));
}

// Waits until a condition holds. It fails if the condition does not hold in time.
export async function until(what, holds, patience = 10000) {
  for (const end = Date.now() + patience; ; await sleep(20)) {
    const value = await holds();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
  }
}

// Waits until a client's own list is the core's projection.
export async function settled(audience, list) {
  let mine, core;
  try {
    await until("settled", async () => {
      [core, mine] = [plain(await members(audience)), plain(list())];
      return JSON.stringify(core) === JSON.stringify(mine);
    });
  } catch {
    assert.deepEqual(mine, core, `the list of a client of audience ${audience} differs from the core's`);
  }
}

const list = [];
export const check = (name, run) => list.push([name, run]);

export async function run(title) {
  const began = Date.now();
  for (const [name, run] of list) {
    try {
      await run();
      console.log(`ok    ${title}: ${name}`);
    } catch (error) {
      console.log(`FAIL  ${title}: ${name}`);
      console.error(error);
      process.exit(1);
    }
  }
  console.log(`${list.length} checks of ${title} in ${((Date.now() - began) / 1000).toFixed(1)} s`);
  process.exit(0);
}
