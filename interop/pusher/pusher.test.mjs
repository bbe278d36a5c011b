// The npm package pusher-js, unmodified, in Node.

import assert from "node:assert/strict";
import { test } from "node:test";
import { claim, connect, enter, grace, grant, nameOf, revoke, server, settled, sleep, until, who } from "./check.mjs";

test("several devices of one user are one member, which leaves with the last", async (t) => {
  await grant("default", "devices", "ann", "bob");
  const bob = await enter(t, "default", "bob", "devices");
  const laptop = await enter(t, "default", "ann", "devices");
  assert.equal(nameOf(laptop.channel.members.me.id), "ann");
  assert.equal(laptop.channel.members.me.info.name, "The ann.devices");
  assert.equal(laptop.channel.members.count, 2);
  const phone = await enter(t, "default", "ann", "devices");
  await until("bob sees ann", () => bob.channel.members.count === 2);
  laptop.pusher.disconnect();
  await sleep(grace + 1000);
  assert.deepEqual(bob.events, ["+ann available"]);
  phone.pusher.disconnect();
  await sleep(grace / 3);
  assert.deepEqual(bob.events, ["+ann available"], "the grace is not over");
  await until("ann has left", () => bob.events.length === 2);
  assert.deepEqual(bob.events, ["+ann available", "-ann"]);
  assert.equal(bob.channel.members.count, 1);
  await settled("default", "devices", "team", bob.members);
});

test("a status changes in place", async (t) => {
  await grant("default", "flicker", "ann", "bob");
  const bob = await enter(t, "default", "bob", "flicker");
  const ann = await enter(t, "default", "ann", "flicker");
  await until("bob sees ann", () => bob.events.length === 1);
  await claim("default", "flicker", "ann", "busy");
  await until("bob sees ann busy", () => bob.events.length === 2);
  ann.channel.trigger("client-status", { status: "away" });
  await until("bob sees ann away", () => bob.events.length === 3);
  assert.deepEqual(bob.events, ["+ann available", "+ann busy", "+ann away"]);
  assert.equal(bob.channel.members.count, 2);
  assert.equal(bob.get("ann").status, "away");
  await until("she sees it too", () => ann.get("ann").status === "away");
});

test("a user without access is refused", async (t) => {
  for (const [user, status] of [["mallory", 403], ["nobody", 403]]) {
    const pusher = connect(t, "default", who(user, "refused"));
    const channel = pusher.subscribe("presence-refused");
    const error = await new Promise((resolve) => channel.bind("pusher:subscription_error", resolve));
    assert.equal(error.status, status, JSON.stringify(error));
    assert.equal(error.type, "AuthError");
    assert.equal(channel.subscribed, false);
    assert.equal(pusher.connection.state, "connected");
  }
  await grant("default", "refused", "ann", "bob");
  const bob = await enter(t, "default", "bob", "refused");
  await enter(t, "default", "ann", "refused");
  await until("bob sees ann", () => bob.channel.members.count === 2);
  const refused = new Promise((resolve) => bob.channel.bind("pusher:subscription_error", resolve));
  await revoke("default", "refused", "bob");
  assert.equal((await refused).status, 403);
  assert.deepEqual(bob.members(), {}, "who has lost access sees nothing any more");
});

test("an unknown key and another app's secret are refused", async (t) => {
  const lost = connect(t, "unknown", "ann");
  const error = await new Promise((resolve) => lost.connection.bind("error", resolve));
  assert.equal(error.error.data.code, 4001);
  await until("it does not come back", () => lost.connection.state === "disconnected");
});

test("a visitor sees and is not listed", async (t) => {
  await grant("thrivedesk", "shop", "ann", "bob", "cyd");
  const ann = await enter(t, "thrivedesk", "ann", "shop");
  const visitor = await enter(t, "thrivedesk", "visitor-7", "shop");
  await enter(t, "thrivedesk", "visitor-8", "shop");
  assert.equal(visitor.channel.members.me, null);
  assert.equal(visitor.channel.members.count, 3, "agents who are not connected are shown, away");
  assert.equal(visitor.get("cyd").status, "away");
  assert.equal(visitor.get("ann").status, "online");
  assert.equal(visitor.get("ann").name, "The ann.shop");
  await enter(t, "thrivedesk", "bob", "shop");
  await until("the visitor sees bob", () => visitor.events.length === 1);
  assert.deepEqual(visitor.events, ["+bob online"]);
  assert.deepEqual(ann.events, ["+bob online"], "no member sees visitors join");
  ann.pusher.disconnect();
  await until("ann is away", () => visitor.events.length === 2);
  assert.deepEqual(visitor.events, ["+bob online", "+ann away"]);
  assert.equal(visitor.channel.members.count, 3);
  await settled("thrivedesk", "shop", "visitor", visitor.members);
});

test("a hidden user is hidden from visitors only", async (t) => {
  await grant("tawkto", "hide", "ann", "bob");
  const [ann, bob, visitor] = [await enter(t, "tawkto", "ann", "hide"), await enter(t, "tawkto", "bob", "hide"), await enter(t, "tawkto", "visitor-1", "hide")];
  await claim("tawkto", "hide", "ann", "invisible");
  await until("the visitor sees ann go", () => visitor.events.includes("-ann"));
  ann.channel.trigger("client-typing", {});
  const heard = [];
  visitor.channel.bind("client-typing", () => heard.push("visitor"));
  bob.channel.bind("client-typing", (_, { user_id }) => heard.push(nameOf(user_id)));
  ann.channel.trigger("client-typing", {});
  await until("bob hears", () => heard.includes("ann"));
  await settled("tawkto", "hide", "visitor", visitor.members);
  await settled("tawkto", "hide", "team", bob.members);
  assert.ok(!heard.includes("visitor"));
});

test("a user that reconnects in time never left", async (t) => {
  await grant("default", "back", "ann", "bob");
  const bob = await enter(t, "default", "bob", "back");
  const ann = await enter(t, "default", "ann", "back");
  await until("bob sees ann", () => bob.events.length === 1);
  const before = ann.pusher.connection.socket_id;
  ann.pusher.disconnect();
  ann.pusher.connect();
  await until("ann is back", () => ann.channel.subscribed && ann.pusher.connection.socket_id !== before);
  await sleep(grace + 1000);
  assert.deepEqual(bob.events, ["+ann available"]);
  assert.deepEqual(ann.names(), ["ann", "bob"]);
});

test("clients reconnect by themselves after the network broke", async (t) => {
  await grant("default", "broken", "ann", "bob");
  const clients = [await enter(t, "default", "ann", "broken"), await enter(t, "default", "bob", "broken"), await enter(t, "default", "super-sam", "broken")];
  const before = clients.map(({ pusher }) => pusher.connection.socket_id);
  await server("default", "cut");
  for (const [i, { pusher, channel }] of clients.entries()) {
    await until("it is back", () => pusher.connection.socket_id !== before[i] && channel.subscribed);
  }
  for (const { members } of clients.slice(0, 2)) await settled("default", "broken", "team", members);
  await settled("default", "broken", "supervisor", clients[2].members);
});

test("client events, with their sender", async (t) => {
  await grant("default", "whisper", "ann", "bob");
  const [ann, bob] = [await enter(t, "default", "ann", "whisper"), await enter(t, "default", "bob", "whisper")];
  const got = new Promise((resolve) => bob.channel.bind("client-typing", (data, { user_id }) => resolve({ data, user_id })));
  ann.channel.trigger("client-typing", { where: "here" });
  assert.deepEqual(await got, { data: { where: "here" }, user_id: who("ann", "whisper") });
  const error = new Promise((resolve) => ann.pusher.connection.bind("error", resolve));
  for (let i = 0; i < 30; i++) ann.channel.trigger("client-flood", i);
  assert.equal((await error).data.code, 4301);
});

test("a quiet client gets a ping, and answers", async (t) => {
  await grant("default", "quiet", "ann");
  const ann = await enter(t, "default", "ann", "quiet");
  const id = ann.pusher.connection.socket_id;
  let pings = 0;
  ann.pusher.connection.bind("message", ({ event }) => event === "pusher:ping" && pings++);
  await until("five pings", () => pings >= 5);
  assert.equal(ann.pusher.connection.socket_id, id);
  assert.deepEqual(ann.events, []);
});

test("at the end of a random script every map is the core's", async (t) => {
  let state = Number(process.env.SEED ?? Date.now() % 1e6);
  t.diagnostic(`SEED=${state}`);
  const random = (n) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % n;
  };
  for (const [app, statuses] of [["default", ["available", "away", "busy"]], ["thrivedesk", ["online", "away"]], ["tawkto", ["online", "away", "invisible"]]]) {
    const people = ["ann", "bob", "cyd", "dan"];
    await grant(app, "random", ...people);
    const watchers = {
      visitor: await enter(t, app, "visitor-9", "random"),
      supervisor: await enter(t, app, "super-sue", "random"),
      team: await enter(t, app, "ann", "random"),
    };
    const tabs = [];
    for (let i = 0; i < 80; i++) {
      const name = people[random(people.length)];
      switch (random(8)) {
        case 0: case 1:
          if (tabs.length < 8) tabs.push(await enter(t, app, name, "random"));
          break;
        case 2:
          tabs.splice(random(8), 1).forEach(({ pusher }) => pusher.disconnect());
          break;
        case 3: case 4:
          await claim(app, "random", name, statuses[random(statuses.length)]);
          break;
        case 5: // only cyd may lose access and gets it again
          await revoke(app, "random", "cyd");
          await grant(app, "random", "cyd");
          break;
        case 6:
          await sleep(random(600));
          break;
        case 7:
          if (random(4) > 0) break;
          await server(app, "cut");
          for (const { pusher, channel } of Object.values(watchers)) await until("it is back", () => pusher.connection.state === "connected" && channel.subscribed);
      }
    }
    // Every grace must end first. After that no member is added or removed.
    await sleep(grace + 1000);
    assert.ok(Object.values(watchers).flatMap(({ events }) => events).length > 5, "the script was an idle one");
    for (const [audience, { members, channel }] of Object.entries(watchers)) {
      await settled(app, "random", audience, members);
      assert.equal(channel.members.count, Object.keys(members()).length);
    }
    for (const { pusher } of [...tabs, ...Object.values(watchers)]) pusher.disconnect();
  }
});
