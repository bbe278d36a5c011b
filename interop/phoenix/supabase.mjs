// The npm package @supabase/realtime-js, unmodified, in Node. Usage: node supabase.mjs URL

import assert from "node:assert/strict";
import { RealtimeClient } from "@supabase/realtime-js";
import WebSocket from "ws";
import { check, members, run, server, settled, sleep, sockets, until } from "./check.mjs";

// A client that watches sales and notes every member that was gone at any time.
function client(apikey, token) {
  const realtime = new RealtimeClient(`${sockets}/realtime/v1`, { transport: WebSocket, params: { apikey } });
  if (token) realtime.setAuth(token);
  const channel = realtime.channel("sales", { config: { presence: { key: apikey } } });
  const c = { realtime, channel, gone: [], statuses: [], error: null };
  let before = [];
  channel.on("presence", { event: "sync" }, () => {
    const now = Object.keys(channel.presenceState());
    c.gone.push(...before.filter((key) => !now.includes(key)));
    before = now;
  });
  channel.on("postgres_changes", { event: "*", schema: "public", table: "agents" }, () => {});
  channel.on("broadcast", { event: "shout" }, () => assert.fail("a broadcast"));
  c.subscribed = new Promise((resolve) =>
    channel.subscribe((status, error) => {
      c.statuses.push(status);
      c.error = error;
      resolve(status);
    }),
  );
  c.metas = (key) => channel.presenceState()[key] ?? [];
  c.status = (key) => c.metas(key)[0]?.status;
  c.end = () => realtime.disconnect();
  return c;
}

const bob = client("bob");
const guest = client("guest:visitor");
let ann = client("anon-1:visitor", "ann");

check("subscribe watches, track lists the agent", async () => {
  for (const c of [ann, bob, guest]) assert.equal(await c.subscribed, "SUBSCRIBED");
  await sleep(200);
  assert.deepEqual(guest.channel.presenceState(), {});
  assert.equal(await ann.channel.track({ user: "not looked at" }), "ok");
  await until("ann", () => bob.status("ann") === "available" && guest.status("ann") === "available");
  assert.equal(await guest.channel.track({}), "error");
  await settled("team", () => bob.channel.presenceState());
});

check("a status change without a flicker", async () => {
  for (const status of ["busy", "away", "busy", "away"]) {
    assert.equal(await ann.channel.track({ status, text: "back soon" }), "ok");
    await until(status, () => bob.status("ann") === status && guest.status("ann") === status);
    await settled("team", () => bob.channel.presenceState());
  }
  assert.deepEqual([...bob.gone, ...guest.gone], []);
  assert.equal(await ann.channel.track({ status: "asleep" }), "error");
});

check("several devices", async () => {
  const phone = client("ann");
  await phone.subscribed;
  await phone.channel.track({});
  await until("two", () => bob.metas("ann").length === 2);
  assert.equal(guest.metas("ann").length, 1);
  await phone.channel.track({ status: "busy" });
  await until("busy on both", () => bob.metas("ann").every((meta) => meta.status === "busy"));
  await settled("team", () => bob.channel.presenceState());
  await phone.channel.untrack();
  await until("one again", () => bob.metas("ann").length === 1);
  await phone.channel.track({});
  await until("two again", () => bob.metas("ann").length === 2);
  await phone.end();
  await until("one at last", () => bob.metas("ann").length === 1);
  await settled("team", () => bob.channel.presenceState());
  assert.deepEqual(bob.gone, []);
});

check("a leave takes effect after its grace, and no watcher sees a reload", async () => {
  await ann.end();
  ann = client("ann");
  await ann.subscribed;
  await ann.channel.track({});
  await sleep(3500);
  assert.equal(bob.status("ann"), "busy");
  assert.deepEqual(bob.gone, []);
  const left = Date.now();
  await ann.channel.untrack();
  await until("gone", () => !bob.status("ann"));
  assert.ok(Date.now() - left > 2900, `gone after ${Date.now() - left} ms`);
  await ann.channel.track({});
  await until("back", () => bob.status("ann") === "busy");
  bob.gone.length = guest.gone.length = 0;
});

check("refused: a channel without a grant, a token of another user", async () => {
  const cyd = client("cyd");
  assert.equal(await cyd.subscribed, "CHANNEL_ERROR");
  assert.match(cyd.error.message, /not-allowed/);
  await cyd.end();
  const two = client("ann");
  await two.subscribed;
  await two.realtime.setAuth("mallory");
  await until("closed", () => two.statuses.includes("CLOSED"));
  await two.end();
  assert.equal((await members("team")).cyd, undefined);
});

check("broadcasts are not delivered and do no harm", async () => {
  assert.equal(await ann.channel.send({ type: "broadcast", event: "shout", payload: { loud: true } }), "ok");
  const asking = ann.realtime.channel("sales2", { config: { broadcast: { ack: true } } });
  const status = await new Promise((resolve) => asking.subscribe(resolve));
  assert.equal(status, "CHANNEL_ERROR");
  await sleep(200);
  assert.equal(ann.channel.state, "joined");
});

check("after a cut all clients reconnect", async () => {
  await server("cut");
  await until("rejoined", () => [bob, guest].every((c) => c.statuses.filter((s) => s === "SUBSCRIBED").length > 1), 20000);
  await until("ann", () => ann.channel.state === "joined");
  await ann.channel.track({ status: "available" });
  await until("ann is there", () => bob.status("ann") === "available" && guest.status("ann") === "available");
  await sleep(3500);
  await settled("team", () => bob.channel.presenceState());
});

for (const seed of [11, 12, 13, 14, 15]) {
  check(`random script ${seed}: presenceState is the core's projection`, async () => {
    await server("script", { seed });
    await settled("team", () => bob.channel.presenceState());
    await settled("visitor", () => guest.channel.presenceState());
  });
}

await run("@supabase/realtime-js");
