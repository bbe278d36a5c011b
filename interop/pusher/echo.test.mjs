// The npm package laravel-echo, unmodified, in Node: the way a Laravel front end
// uses presence channels.

import assert from "node:assert/strict";
import { test } from "node:test";
import Echo from "laravel-echo";
import Pusher from "pusher-js";
import { claim, grace, grant, nameOf, options, settled, sleep, until, who } from "./check.mjs";

// An Echo with the members that a page would keep: those of here, then upserts.
async function join(t, app, user, channel, broadcaster = "pusher") {
  const { cluster, ...rest } = options(app, who(user, channel));
  const echo = new Echo({ broadcaster, Pusher, key: `key-${app}`, ...rest, ...(broadcaster === "pusher" ? { cluster } : {}) });
  t.after(() => echo.disconnect());
  const seen = { echo, list: new Map(), events: [], whispers: [], errors: [] };
  const name = ({ id }) => nameOf(id);
  seen.channel = echo.join(channel)
    .here((members) => (seen.list = new Map(members.map((m) => [name(m), m]))))
    .joining((member) => { seen.list.set(name(member), member); seen.events.push(`+${name(member)} ${member.status}`); })
    .leaving((member) => { seen.list.delete(name(member)); seen.events.push(`-${name(member)}`); })
    .listenForWhisper("typing", (what) => seen.whispers.push(what))
    .error((error) => seen.errors.push(error));
  seen.members = () => Object.fromEntries([...seen.list.values()].map((m) => [m.id, m]));
  await until(`${user} is on ${channel}`, () => seen.channel.subscription.subscribed || seen.errors.length);
  return seen;
}

for (const broadcaster of ["pusher", "reverb"]) {
  test(`here, joining, leaving and whispers with broadcaster ${broadcaster}`, async (t) => {
    const channel = `echo-${broadcaster}`;
    await grant("default", channel, "ann", "bob");
    const bob = await join(t, "default", "bob", channel, broadcaster);
    assert.deepEqual([...bob.list.keys()], ["bob"]);
    const ann = await join(t, "default", "ann", channel, broadcaster);
    const second = await join(t, "default", "ann", channel, broadcaster);
    assert.deepEqual([...ann.list.keys()].sort(), ["ann", "bob"]);
    assert.equal(ann.list.get("bob").name, `The bob.${channel}`);
    await claim("default", channel, "ann", "busy");
    await until("bob sees ann busy", () => bob.events.includes("+ann busy"));
    assert.deepEqual(bob.events, ["+ann available", "+ann busy"]);
    ann.channel.whisper("typing", { in: "the box" });
    await until("bob hears", () => bob.whispers.length === 1);
    assert.deepEqual(bob.whispers, [{ in: "the box" }]);
    ann.echo.leave(channel);
    await sleep(grace + 1000);
    assert.ok(!bob.events.includes("-ann"), "she is still there in a second window");
    second.echo.disconnect();
    await until("ann has left", () => bob.events.includes("-ann"));
    assert.deepEqual(bob.events, ["+ann available", "+ann busy", "-ann"]);
    await settled("default", channel, "team", bob.members);
  });
}

test("refused access reaches error", async (t) => {
  for (const user of ["mallory", "nobody"]) {
    const seen = await join(t, "default", user, "echo-refused");
    assert.equal(seen.errors[0].status, 403);
  }
});

test("a visitor's page", async (t) => {
  await grant("thrivedesk", "echo-shop", "ann", "bob");
  const visitor = await join(t, "thrivedesk", "visitor-1", "echo-shop");
  assert.equal(visitor.list.size, 2, "agents who are not connected are shown, away");
  const ann = await join(t, "thrivedesk", "ann", "echo-shop");
  await until("the visitor sees ann online", () => visitor.events.includes("+ann online"));
  assert.equal(ann.list.size, 2, "the visitor is not listed");
  assert.deepEqual(ann.events, []);
});
