// What the checks have in common: a server to ask, patience, and clients as apps
// set them up.

import assert from "node:assert/strict";
import Pusher from "pusher-js";

export const url = process.env.PUSHER_SERVER;
const { hostname, port } = new URL(url);

// How a client of an app is set up, for the authorization of a user.
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

// The user id of somebody on a channel. Every channel has people of its own, so
// that no check meets what another has left behind.
export const who = (name, channel) => `${name}.${channel}`;
export const nameOf = (id) => id.split(".")[0];

// Subscribes to a presence channel and notes what happens on it.
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

// Lets the server do what no client can.
export async function server(app, what, args = {}) {
  const answer = await fetch(`${url}/do/${app}/${what}?${new URLSearchParams(args)}`, { method: "POST" });
  if (!answer.ok) throw new Error(`${what}: ${await answer.text()}`);
}

export async function grant(app, channel, ...names) {
  for (const name of names) await server(app, "grant", { subject: who(name, channel), channel });
}
export const revoke = (app, channel, name) => server(app, "revoke", { subject: who(name, channel), channel });
export const claim = (app, channel, name, status) => server(app, "claim", { subject: who(name, channel), status });

// How long the server gives who was closed or cut off to come back.
export const grace = 3000;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Waits until a condition holds; what is not true in time is a failure.
export async function until(what, holds, patience = 30000) {
  for (const end = Date.now() + patience; ; await sleep(20)) {
    const value = await holds();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
  }
}

// What an audience has to see, from the core.
export async function core(app, channel, audience) {
  const answer = await fetch(`${url}/members/${app}/${channel}?audience=${audience}`);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

// Waits until a client's own map of members is what the core says its audience
// sees, and the same twice in a row, so that nothing is still on its way.
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
    assert.deepEqual(mine, theirs, `what a client of audience ${audience} holds is not what the core says`);
  }
  for (const [id, info] of Object.entries(await members())) {
    if (info.name !== undefined) assert.equal(info.name, `The ${id}`);
  }
}

const sorted = (value) => value && typeof value === "object" ? Object.fromEntries(Object.entries(value).sort().map(([k, v]) => [k, sorted(v)])) : value;
