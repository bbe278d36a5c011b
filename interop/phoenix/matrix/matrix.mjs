// One version of phoenix or of @supabase/realtime-js, unmodified, in Node.
// Usage: node matrix.mjs URL NAME, where NAME is a dependency of package.json.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import WebSocket from "ws";
import { check, members, run, server, settled, sleep, sockets, until } from "../check.mjs";

const name = process.argv[3];

// Loads a version. Those before modules of their own are for pages, whose global
// object is the window.
async function load() {
  const require = createRequire(import.meta.url);
  try {
    return require(name);
  } catch (error) {
    if (error instanceof ReferenceError) {
      globalThis.window = globalThis;
      return require(name);
    }
    return import(name);
  }
}

// Some versions have mistakes with a transport that is given. All find this one.
globalThis.WebSocket = WebSocket;
const lib = await load();

// A client of either package. seen notes the members that were gone at any time.
function watch(c) {
  c.gone = [];
  let before = [];
  c.seen = () => {
    const now = Object.keys(c.list());
    c.gone.push(...before.filter((key) => !now.includes(key)));
    before = now;
  };
  c.status = (key) => c.metas(key)[0]?.status;
  return c;
}

function phoenix(token) {
  const { Socket, Presence } = lib;
  const socket = new Socket(`${sockets}/socket`, { transport: WebSocket, params: { token } });
  socket.connect();
  const channel = socket.channel("sales", {});
  let state = {};
  const c = watch({ channel, list: () => state, metas: (key) => state[key]?.metas ?? [] });
  channel.onClose((reason) => (c.closed = reason));
  if (Presence.prototype?.onSync) {
    const presence = new Presence(channel);
    presence.onSync(() => {
      state = presence.state;
      c.seen();
    });
  } else {
    // The oldest change the state that they are given, later ones return another.
    const follow = (sync) => (message) => {
      state = sync.call(Presence, state, message) ?? state;
      c.seen();
    };
    channel.on("presence_state", follow(Presence.syncState));
    channel.on("presence_diff", follow(Presence.syncDiff));
  }
  c.joined = new Promise((resolve) => channel.join().receive("ok", resolve).receive("error", resolve));
  c.push = (event, payload) => new Promise((resolve, reject) => channel.push(event, payload).receive("ok", resolve).receive("error", reject));
  c.claim = (status) => c.push("claim", { status });
  c.appear = () => c.joined;
  c.vanish = () => new Promise((resolve) => channel.leave().receive("ok", resolve));
  c.refused = async () => assert.equal((await c.joined).reason, "not-allowed");
  c.up = () => channel.state === "joined";
  c.end = () => socket.disconnect(() => {});
  return c;
}

function supabase(apikey) {
  const realtime = new lib.RealtimeClient(`${sockets}/realtime/v1`, { params: { apikey } });
  const channel = realtime.channel("sales", { config: { presence: { key: apikey } } });
  const c = watch({ channel, list: () => channel.presenceState(), metas: (key) => channel.presenceState()[key] ?? [], statuses: [] });
  channel.on("presence", { event: "sync" }, () => c.seen());
  c.joined = new Promise((resolve) =>
    channel.subscribe((status) => {
      c.statuses.push(status);
      resolve(status);
    }),
  );
  const track = async (what) => {
    let answer;
    // Versions up to 2.6 refuse a second push within 100 ms themselves.
    while ((answer = await channel.track(what)) === "rate limited") await sleep(50);
    assert.equal(answer, "ok");
  };
  c.claim = (status) => track({ status });
  c.appear = async () => {
    assert.equal(await c.joined, "SUBSCRIBED");
    await track({});
  };
  c.vanish = () => channel.untrack();
  c.refused = async () => assert.equal(await c.joined, "CHANNEL_ERROR");
  c.up = () => c.statuses.filter((status) => status === "SUBSCRIBED").length > 1;
  c.end = () => realtime.disconnect();
  return c;
}

// These realtime-js tear every channel down when they connect again
// (RealtimeClient.disconnect, which their reconnect calls): with any server, an
// application has to make its channels anew.
const torn = ["realtime-2.11.15", "realtime-2.12.2"].includes(name);

const client = name.startsWith("phoenix") ? phoenix : supabase;
let bob = client("bob");
let guest = client("guest:visitor");
let ann = client("ann");

check("join and be listed", async () => {
  await Promise.all([bob.joined, guest.joined]);
  await ann.appear();
  await until("ann", () => bob.status("ann") === "available" && guest.status("ann") === "available");
  await settled("team", () => bob.list());
  await settled("visitor", () => guest.list());
});

check("a status change without a flicker", async () => {
  for (const status of ["busy", "away", "busy"]) {
    await ann.claim(status);
    await until(status, () => bob.status("ann") === status && guest.status("ann") === status);
    assert.equal(bob.metas("ann").length, 1);
  }
  // The oldest realtime-js does not report a refusal.
  await assert.rejects(Promise.race([ann.claim("asleep"), sleep(1000).then(() => assert.fail())]));
  assert.deepEqual([...bob.gone, ...guest.gone], []);
});

check("two devices", async () => {
  const phone = client("ann");
  await phone.appear();
  await until("two", () => bob.metas("ann").length === 2);
  assert.equal(guest.metas("ann").length, 1);
  await settled("team", () => bob.list());
  phone.end();
  await until("one", () => bob.metas("ann").length === 1);
  assert.deepEqual(bob.gone, []);
});

check("a channel without a grant", async () => {
  const cyd = client("cyd");
  await cyd.refused();
  assert.equal((await members("team")).cyd, undefined);
  cyd.end();
});

check("a cut, and no member was gone", async () => {
  await server("cut");
  const cut = Date.now();
  await sleep(500);
  if (torn) {
    await sleep(3000);
    assert.ok(![ann, bob, guest].some((c) => c.up()), "it joins again: it is not torn");
    for (const c of [ann, bob, guest]) c.end();
    [ann, bob, guest] = [client("ann"), client("bob"), client("guest:visitor")];
    await Promise.all([bob.joined, guest.joined]);
    return ann.appear();
  }
  await until("back", () => [ann, bob, guest].every((c) => c.up()), 30000);
  const quick = Date.now() - cut < 2500;
  if (client === supabase) await ann.claim("busy");
  await until("ann", () => bob.status("ann") === "busy" && guest.status("ann") === "busy");
  await sleep(3300);
  await settled("team", () => bob.list());
  await settled("visitor", () => guest.list());
  // Some versions wait for longer than the policy's grace of 3 s before they join
  // again.
  if (client === phoenix && quick) assert.deepEqual([...bob.gone, ...guest.gone], []);
});

check("a leave takes effect after its grace, and is taken back", async () => {
  await ann.vanish();
  await until("gone", () => !bob.status("ann"));
  ann.end();
  ann = client("ann");
  await ann.appear();
  await until("back", () => bob.status("ann") === "busy");
  await settled("team", () => bob.list());
});

if (client === phoenix) {
  check("a revoked grant ends the channel for good", async () => {
    await server("revoke", { id: "ann" });
    await until("closed", () => ann.closed?.reason === "not-allowed");
    await server("grant", { id: "ann" });
  });
}

for (const seed of [21, 22, 23]) {
  check(`random script ${seed}: the member list is the core's projection`, async () => {
    await server("script", { seed });
    await settled("team", () => bob.list());
    await settled("visitor", () => guest.list());
  });
}

await run(name);
