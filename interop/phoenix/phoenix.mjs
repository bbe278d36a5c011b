// The npm package phoenix, unmodified, in Node. Usage: node phoenix.mjs URL

import assert from "node:assert/strict";
import { Presence, Socket } from "phoenix";
import WebSocket from "ws";
import { check, members, plain, run, server, settled, sleep, sockets, until } from "./check.mjs";

// A client that watches sales and notes every member that was gone at any time.
function client(token, params = {}) {
  const socket = new Socket(`${sockets}/socket`, { transport: WebSocket, params: { token, ...params } });
  socket.connect();
  const channel = socket.channel("sales", {});
  const presence = new Presence(channel);
  const c = { socket, channel, presence, gone: [], leaves: [], reply: null, closed: null };
  let before = [];
  presence.onSync(() => {
    const now = Object.keys(presence.state);
    c.gone.push(...before.filter((key) => !now.includes(key)));
    before = now;
  });
  presence.onLeave((key, current) => c.leaves.push([key, current.metas.length]));
  channel.onClose((reason) => (c.closed = reason));
  c.joined = new Promise((resolve) => channel.join().receive("ok", resolve).receive("error", resolve)).then((reply) => (c.reply = reply));
  c.metas = (key) => presence.state[key]?.metas ?? [];
  c.status = (key) => c.metas(key)[0]?.status;
  c.push = (event, payload) => new Promise((resolve, reject) => channel.push(event, payload).receive("ok", resolve).receive("error", reject));
  c.end = () => new Promise((resolve) => socket.disconnect(resolve));
  return c;
}

const bob = client("bob");
const guest = client("guest:visitor");
let ann = client("ann");

check("an agent that joins is listed, a visitor is not", async () => {
  const reply = await ann.joined;
  assert.equal(reply.key, "ann");
  await until("ann and bob", () => bob.status("ann") === "available" && bob.status("bob") === "available");
  await settled("team", () => bob.presence.state);
  await settled("visitor", () => guest.presence.state);
  assert.deepEqual(Presence.list(bob.presence.state, (key) => key).sort(), ["ann", "bob"]);
});

check("a status change without a flicker", async () => {
  for (const status of ["busy", "away", "busy"]) {
    await ann.push("claim", { status, text: "back soon" });
    await until(status, () => bob.status("ann") === status && guest.status("ann") === status);
    assert.equal(bob.metas("ann").length, 1);
  }
  assert.equal(bob.metas("ann")[0].text, "back soon");
  assert.equal(guest.metas("ann")[0].text, undefined);
  assert.ok(bob.metas("ann")[0].phx_ref_prev);
  assert.deepEqual(bob.gone, []);
  assert.ok(bob.leaves.every(([key, left]) => key === "ann" && left === 1));
  await assert.rejects(ann.push("claim", { status: "asleep" }), (refusal) => refusal.reason === "unknown");
});

check("several devices are several entries for the team, but one for visitors", async () => {
  const phone = client("ann", { device: "mobile" });
  await until("two", () => bob.metas("ann").length === 2);
  assert.equal(guest.metas("ann").length, 1);
  await phone.push("claim", { status: "away" });
  await until("away on both", () => bob.metas("ann").every((meta) => meta.status === "away"));
  await settled("team", () => bob.presence.state);
  await phone.end();
  await until("one again", () => bob.metas("ann").length === 1);
  await settled("team", () => bob.presence.state);
  assert.deepEqual(bob.gone, []);
});

check("no watcher sees a reload", async () => {
  await ann.end();
  await sleep(300);
  assert.equal(bob.status("ann"), "away");
  ann = client("ann");
  await ann.joined;
  await sleep(3500);
  assert.equal(bob.status("ann"), "away");
  assert.deepEqual(bob.gone, []);
  await settled("team", () => ann.presence.state);
});

check("a leave takes effect after its grace", async () => {
  const left = Date.now();
  await ann.end();
  await until("gone", () => !bob.status("ann"));
  assert.ok(Date.now() - left > 2900, `gone after ${Date.now() - left} ms`);
  assert.deepEqual(bob.gone, ["ann"]);
  bob.gone.length = 0;
  ann = client("ann");
  await until("back", () => bob.status("ann") === "away");
});

check("refused: a channel without a grant, a token of an unknown user", async () => {
  const cyd = client("cyd");
  assert.equal((await cyd.joined).reason, "not-allowed");
  assert.equal((await members("team")).cyd, undefined);
  await cyd.end();
  let opened = false;
  const socket = new Socket(`${sockets}/socket`, { transport: WebSocket, params: { token: "mallory" } });
  socket.onOpen(() => (opened = true));
  const failed = new Promise((resolve) => socket.onError(resolve));
  socket.connect();
  await failed;
  assert.ok(!opened);
  socket.disconnect();
});

check("a revoked grant closes the channel for good", async () => {
  await server("revoke", { id: "ann" });
  await until("closed", () => ann.closed?.reason === "not-allowed");
  assert.equal(ann.channel.state, "closed");
  await until("gone for others", () => !bob.status("ann"));
  await server("grant", { id: "ann" });
  await ann.end();
  ann = client("ann");
  await until("back", () => bob.status("ann") === "away");
});

check("an invisible agent is hidden from visitors", async () => {
  await ann.push("claim", { status: "invisible" });
  await until("gone", () => !guest.status("ann"));
  assert.equal(bob.status("ann"), "invisible");
  await ann.push("claim", { status: "available" });
  await until("back", () => guest.status("ann") === "available");
  await settled("visitor", () => guest.presence.state);
});

check("after a cut all clients reconnect and no member was gone", async () => {
  bob.gone.length = guest.gone.length = 0;
  const synced = new Promise((resolve) => bob.socket.onOpen(resolve));
  await server("cut");
  await synced;
  await until("rejoined", () => [ann, bob, guest].every((c) => c.channel.state === "joined"));
  await sleep(3500);
  await settled("team", () => bob.presence.state);
  await settled("visitor", () => guest.presence.state);
  assert.deepEqual([...bob.gone, ...guest.gone], []);
  assert.equal(bob.metas("ann").length, 1);
});

check("a token in the subprotocol", async () => {
  const socket = new Socket(`${sockets}/socket`, { transport: WebSocket, authToken: "ann" });
  socket.connect();
  const reply = await new Promise((resolve) => socket.channel("sales").join().receive("ok", resolve).receive("error", resolve));
  assert.equal(reply.key, "ann");
  socket.disconnect();
});

check("ids that mean something to JavaScript", async () => {
  for (const id of ["__proto__", "constructor"]) await server("connect", { id });
  await until("both", () => bob.status("~__proto__") && bob.status("~constructor"));
  assert.equal(bob.metas("~__proto__")[0].id, "__proto__");
  await settled("team", () => bob.presence.state);
  for (const id of ["__proto__", "constructor"]) await server("logout", { id });
});

for (const seed of [1, 2, 3, 4, 5]) {
  check(`random script ${seed}: the member list is the core's projection`, async () => {
    await server("script", { seed });
    await settled("team", () => bob.presence.state);
    await settled("visitor", () => guest.presence.state);
    assert.deepEqual(Object.keys(plain(bob.presence.state)).length, Presence.list(bob.presence.state).length);
  });
}

await run("phoenix");
