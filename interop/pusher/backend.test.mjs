// The npm package pusher, the library of an app's own backend, unmodified.

import assert from "node:assert/strict";
import { test } from "node:test";
import Pusher from "pusher";
import { connect, enter, grant, until, url, who } from "./check.mjs";

const { hostname, port } = new URL(url);
const backend = new Pusher({ appId: "default", key: "key-default", secret: "secret-default", host: hostname, port, useTLS: false });
const json = async (answer) => (await answer).json();

test("events reach all subscribers but one", async (t) => {
  const [a, b] = [connect(t, "default", "ann"), connect(t, "default", "bob")];
  const got = [];
  for (const [name, pusher] of [["a", a], ["b", b]]) {
    for (const channel of ["news", "private-room"]) {
      const subscribed = pusher.subscribe(channel);
      subscribed.bind("hello", (data) => got.push(`${name} ${channel} ${JSON.stringify(data)}`));
      await until("subscribed", () => subscribed.subscribed);
    }
  }
  await backend.trigger(["news", "private-room"], "hello", { to: "all" }, { socket_id: b.connection.socket_id });
  await backend.triggerBatch([{ channel: "news", name: "hello", data: "ä<&>" }, { channel: "private-room", name: "hello", data: { n: 2 } }]);
  await until("all have come", () => got.length === 6);
  assert.deepEqual(got.sort(), ['a news "ä<&>"', 'a news {"to":"all"}', 'a private-room {"n":2}', 'a private-room {"to":"all"}', 'b news "ä<&>"', 'b private-room {"n":2}']);
});

test("channels, their users and the counts", async (t) => {
  await grant("default", "count", "ann", "bob");
  const ann = await enter(t, "default", "ann", "count");
  await enter(t, "default", "ann", "count");
  await enter(t, "default", "bob", "count");
  await enter(t, "default", "visitor-1", "count");
  const { channels } = await json(backend.get({ path: "/channels", params: { filter_by_prefix: "presence-c", info: "user_count" } }));
  assert.deepEqual(channels["presence-count"], { user_count: 2 });
  assert.deepEqual(await json(backend.get({ path: "/channels/presence-count", params: { info: "user_count,subscription_count" } })), { occupied: true, user_count: 2, subscription_count: 4 });
  assert.deepEqual(await json(backend.get({ path: "/channels/presence-count/users" })), { users: [{ id: who("ann", "count") }, { id: who("bob", "count") }] });
  assert.deepEqual(await json(backend.trigger("presence-count", "e", 1, { info: "user_count" })), { channels: { "presence-count": { user_count: 2 } } });
  await assert.rejects(backend.get({ path: "/channels/news/users" }), { status: 400 });
  const wrong = new Pusher({ ...backend.config, appId: "default", key: "key-default", secret: "wrong", host: hostname, port, useTLS: false });
  await assert.rejects(wrong.trigger("news", "e", 1), { status: 401 });
  await assert.rejects(backend.trigger("news", "e", "x".repeat(10241)), { status: 413 });
  assert.ok(ann.channel.subscribed);
});

test("a user that signs in gets events for one user, and can be disconnected", async (t) => {
  const pusher = connect(t, "default", "eve");
  pusher.signin();
  await pusher.user.signinDonePromise;
  assert.equal(pusher.user.user_data.id, "eve");
  await until("subscribed to her own channel", () => pusher.user.serverToUserChannel?.subscribed);
  const got = new Promise((resolve) => pusher.user.bind("hello", resolve));
  await backend.sendToUser("eve", "hello", { you: "there" });
  assert.deepEqual(await got, { you: "there" });
  await backend.terminateUserConnections("eve");
  await until("she does not reconnect", () => pusher.connection.state === "disconnected");
});

test("a presence channel as the user that signed in", async (t) => {
  await grant("default", "signed", "fay");
  const pusher = connect(t, "default", who("fay", "signed"));
  pusher.config.channelAuthorizer = ({ socketId, channelName }, callback) => callback(null, { auth: backend.authorizeChannel(socketId, channelName).auth });
  pusher.signin();
  const fay = await enter(t, "default", "fay", "signed", pusher);
  assert.equal(fay.channel.members.me.id, who("fay", "signed"));
  assert.equal(fay.channel.members.me.info.status, "available");
});

test("a channel that keeps its last event", async (t) => {
  const before = connect(t, "default", "ann").subscribe("cache-score");
  await new Promise((resolve) => before.bind("pusher:cache_miss", resolve));
  await backend.trigger("cache-score", "score", { home: 1 });
  const after = connect(t, "default", "ann").subscribe("cache-score");
  assert.deepEqual(await new Promise((resolve) => after.bind("score", resolve)), { home: 1 });
});

test("webhooks are signed and report each member once", async (t) => {
  await grant("default", "hooks", "gus");
  const first = await enter(t, "default", "gus", "hooks");
  const second = await enter(t, "default", "gus", "hooks");
  first.channel.trigger("client-x", { a: 1 });
  const events = async () => {
    const hooks = ((await (await fetch(`${url}/hooks`)).json()) ?? []).map((hook) => backend.webhook(hook)).filter(({ key }) => key === "key-default");
    for (const hook of hooks) assert.ok(hook.isValid());
    return hooks.flatMap((hook) => hook.getEvents()).filter(({ channel }) => channel === "presence-hooks");
  };
  await until("the client event is reported", async () => (await events()).some(({ name }) => name === "client_event"));
  first.pusher.disconnect();
  second.pusher.disconnect();
  await until("the leave of gus is reported", async () => (await events()).some(({ name }) => name === "channel_vacated"));
  const [occupied, added, said, removed, vacated, ...more] = await events();
  assert.deepEqual(occupied, { name: "channel_occupied", channel: "presence-hooks" });
  assert.deepEqual(added, { name: "member_added", channel: "presence-hooks", user_id: who("gus", "hooks") });
  assert.deepEqual({ ...said, socket_id: "" }, { name: "client_event", channel: "presence-hooks", event: "client-x", data: '{"a":1}', socket_id: "", user_id: who("gus", "hooks") });
  assert.deepEqual(vacated, { name: "channel_vacated", channel: "presence-hooks" });
  assert.deepEqual(removed, { name: "member_removed", channel: "presence-hooks", user_id: who("gus", "hooks") });
  assert.deepEqual(more, []);
});
