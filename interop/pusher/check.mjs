// The common parts of the checks: calls to the server, waits, and clients with the
// options that apps use.

import assert from "node:assert/strict";
import Pusher from "pusher-js";

export const url = process.env.PUSHER_SERVER;
const { hostname, port } = new URL(url);

// Returns the options of a client of an app, with the authorization of a user.
export const options = (app, user) => ({
  cluster: "",
  wsHost: hostname,
  wsPort: port,
  forceTLS: false,
  enabledTransports: ["ws"],
  channelAuthorization: { endpoint: `${url}/auth/${app}`, transport: "ajax", headers: { "X-User": user } },
  userAuthentication: { endpoint: `${url}/user-auth/${app}`, transport: "ajax", headers: { "X-User": user } },
});

// A client of pusher-js. It ends with the test.
export function connect(t, app, user) {
  const pusher = new Pusher(`key-${app}`, options(app, user));
  t.after(() => pusher.disconnect());
  return pusher;
}

// Returns the id of a user on a channel. Every channel has users of its own, so
// that no check finds the state of another.
export const who = (name, channel) => `${name}.${channel}`;
export const nameOf = (id) => id.split(".")[0];

// Subscribes to a presence channel and notes its events.
export async function enter(t, app, name, channel, pusher = connect(t, app, who(name, channel))) {
  const subscribed = pusher.subscribe(`presence-${channel}`);
  const seen = {
    pusher, channel: subscribed, events: [],
    members: () => ({ ...subscribed.members.members }),
    get: (name) => subscribed.members.get(who(name, channel))?.info,
    names: () => Object.keys(subscribed.members.members).map(nameOf).sort(),
  };
  subscribed.bind("pusher:member_added", ({ id, info }) => seen.events.push(`+${nameOf(id)} ${info.status}`));
  subscribed.bind("pusher:member_removed", ({ id }) => seen.events.push(`-${nameOf(id)}`));
  await until(`${name} is on ${channel}`, () => subscribed.subscribed);
  return seen;
}

// Has the server do an action that no client can do.
export async function server(app, what, args = {}) {
  const answer = await fetch(`${url}/do/${app}/${what}?${new URLSearchParams(args)}`, { method: "POST" });
  if (!answer.ok) throw new Error(`${what}: ${await answer.text()}`);
}

export async function grant(app, channel, ...names) {
  for (const name of names) await server(app, "grant", { subject: who(name, channel), channel });
}
export const revoke = (app, channel, name) => server(app, "revoke", { subject: who(name, channel), channel });
export const claim = (app, channel, name, status) => server(app, "claim", { subject: who(name, channel), status });

// The server's grace for a connection that was closed or lost, in milliseconds.
export const grace = 3000;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Waits until a condition holds. It fails if the condition does not hold in time.
export async function until(what, holds, patience = 30000) {
  for (const end = Date.now() + patience; ; await sleep(20)) {
    const value = await holds();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
  }
}

// Returns the members that an audience must see, from the core.
export async function core(app, channel, audience) {
  const answer = await fetch(`${url}/members/${app}/${channel}?audience=${audience}`);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

// Waits until a client's own map of members equals the core's members for its
// audience. They must be equal twice in a row, so that no message is still on its way.
export async function settled(app, channel, audience, members) {
  const bare = (all) => Object.fromEntries(Object.keys(all).sort().map((id) => {
    const { tenant, name, ...rest } = all[id];
    return [id, rest];
  }));
  let mine, theirs;
  try {
    await until("settled", async () => {
      theirs = bare(await core(app, channel, audience));
      mine = bare(await members());
      return JSON.stringify(sorted(theirs)) === JSON.stringify(sorted(mine));
    });
  } catch {
    assert.deepEqual(mine, theirs, `the map of a client of audience ${audience} differs from the core's`);
  }
  for (const [id, info] of Object.entries(await members())) {
    if (info.name !== undefined) assert.equal(info.name, `The ${id}`);
  }
}

const sorted = (value) => value && typeof value === "object" ? Object.fromEntries(Object.entries(value).sort().map(([k, v]) => [k, sorted(v)])) : value;
