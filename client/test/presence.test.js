import assert from "node:assert/strict";
import { test } from "node:test";
import { World, chance } from "./world.js";

const plain = (value) => JSON.parse(JSON.stringify(value));
const list = (channel) => plain([...channel.members.values()].sort((a, b) => a.id.localeCompare(b.id)));
const conn = (world) => [...world.server.conns.keys()];
const kinds = (world, type) => world.server.heard.filter(([, m]) => m.type == type).map(([, m]) => m);

function clean(world) {
  assert.deepEqual(world.problems, []);
  assert.deepEqual(world.server.faults, []);
  for (const page of world.pages) assert.deepEqual(page.errors, []);
}

test("a page connects, and answers pings with its state", async () => {
  const world = new World();
  const page = world.open({ device: "web" });
  assert.equal(page.state, "connecting");
  await world.pass(100);
  assert.equal(page.state, "open");
  assert.deepEqual(page.told.filter(([type]) => type == "state").map(([, state]) => state), ["connecting", "open"]);
  const [hello] = kinds(world, "hello");
  assert.equal(hello.idle, null, "no input is known");
  assert.equal(hello.device, "web");
  assert.equal(plain(page.presence.self).id, "ann");
  await world.pass(25_000);
  assert.equal(kinds(world, "pong")[0].idle, null);
  page.press();
  await world.pass(25_000);
  assert.deepEqual(kinds(world, "input").length, 1);
  const pong = kinds(world, "pong")[1];
  assert.ok(pong.visible && pong.idle > 24_000 && pong.idle < 25_200, `idle ${pong.idle}`);
  clean(world);
});

test("continued input is reported sparsely, renewed input at once, and its age exactly", async () => {
  const world = new World();
  const page = world.open();
  await world.pass(1000);
  for (let i = 0; i < 140; i++) {
    page.press();
    await world.pass(100);
  }
  assert.equal(kinds(world, "input").length, 1);
  await world.pass(10_100); // up to the next ping
  const { idle } = kinds(world, "pong").at(-1);
  assert.ok(idle >= 10_000 && idle <= 10_300, `idle ${idle}`);
  await world.pass(300_000);
  page.press();
  await world.pass(10);
  assert.equal(kinds(world, "input").length, 2);
  clean(world);
});

test("two pages share one connection, and are seen as one", async () => {
  const world = new World();
  const a = world.open();
  const b = world.open({ hidden: true });
  await world.pass(200);
  assert.equal(world.server.sockets.size, 1);
  assert.equal(b.state, "open");
  assert.equal(plain(b.presence.self).id, "ann");
  await world.pass(25_000);
  const seen = () => [...world.server.conns.values()][0];
  assert.equal(seen().visible, true);
  a.hide();
  await world.pass(50);
  assert.equal(seen().visible, false, "no page is visible, which is reported at once");
  b.hide(false);
  await world.pass(50);
  assert.equal(seen().visible, true);
  a.press();
  await world.pass(20_000);
  b.press();
  await world.pass(50);
  assert.equal(seen().idle, 0);
  await world.pass(25_000);
  assert.ok(seen().idle < 6000, `idle ${seen().idle}: what was last done in any of them`);
  assert.deepEqual([...world.held.values()].map((l) => l.queue.length).sort(), [0, 1, 1], "one waits for the lead, and the leader once for the end of the other");
  b.leave();
  await world.pass(50);
  assert.equal(seen().visible, false, "the visible page has closed");
  clean(world);
});

test("the leader's page is closed: the other page continues, and no watcher sees it", async () => {
  const world = new World();
  world.server.change("sales", "bob", { id: "bob", status: "available" });
  const a = world.open();
  await world.pass(100);
  const b = world.open();
  const sales = await Promise.all([b.presence.watch("sales"), world.pass(100)]).then(([c]) => c);
  a.leave();
  await world.pass(300);
  assert.equal(b.state, "open");
  assert.equal(conn(world).length, 1);
  const { epoch, seq } = kinds(world, "watch").at(-1);
  assert.deepEqual([epoch, seq], ["e1", 1], "it continues where the other page was");
  world.server.change("sales", "bob", { id: "bob", status: "busy" });
  await world.pass(30_000);
  assert.equal(sales.members.get("bob").status, "busy");
  assert.deepEqual(world.server.log.map((l) => l[2]), ["joined"]);
  clean(world);
});

test("the leader's page crashes: as if it had been closed", async () => {
  const world = new World();
  const a = world.open();
  const b = world.open();
  await world.pass(100);
  a.crash();
  await world.pass(30_000);
  assert.equal(b.state, "open");
  assert.deepEqual(world.server.log.map((l) => l[2]), ["joined"]);
  clean(world);
});

test("a leader that is stopped without a message is replaced before others notice", async () => {
  const world = new World();
  const a = world.open();
  const b = world.open();
  await world.pass(100);
  a.stopped = true;
  await world.pass(90_000);
  assert.equal(b.state, "open");
  assert.deepEqual(world.server.log.map((l) => l[2]), ["joined"]);
  a.stopped = false;
  await world.pass(90_000);
  assert.equal(a.state, "open");
  assert.deepEqual(b.told.filter(([type]) => type == "state").length, 4, "nothing of it disturbs the new leader");
  assert.equal(world.server.sockets.size, 1);
  assert.equal(conn(world).length, 1, "no page made a second connection");
  assert.deepEqual(world.server.log.map((l) => l[2]), ["joined"]);
  const heard = kinds(world, "hello").length;
  await world.pass(300_000);
  assert.equal(kinds(world, "hello").length, heard, "no page sends another hello");
  const { queue } = world.held.get("presence:desk");
  assert.equal(new Set(queue.map((q) => q.page)).size, queue.length, "no page waits for a lock twice");
  assert.ok(queue.some((q) => q.page == a));
  b.stopped = true;
  await world.pass(90_000);
  b.stopped = false;
  await world.pass(90_000);
  assert.deepEqual([a.state, b.state], ["open", "open"]);
  assert.equal(new Set(queue.map((q) => q.page)).size, queue.length, "nor after the lead returned");
  a.leave();
  await world.pass(30_000);
  assert.equal(b.state, "open");
  assert.deepEqual(world.server.log.map((l) => l[2]), ["joined"]);
  b.leave();
  await world.pass(100);
  assert.ok([...world.held.values()].every((l) => !l.holders.size && !l.queue.length));
  clean(world);
});

test("others ignore a replaced leader that does not know of its theft yet", async () => {
  for (const theft of [1, 501, 515, 530, 700, 2000]) {
    const world = new World();
    const [a, b, c] = [world.open(), world.open(), world.open()];
    await world.pass(100);
    a.stopped = true;
    await world.pass(90_000);
    // After the page runs again, the event of the theft arrives later than all others.
    for (const t of world.tasks) if (t.page == a && t.f.toString().includes("stolen")) t.at = world.now + theft;
    a.stopped = false;
    await world.pass(10_000);
    assert.deepEqual([a.state, b.state, c.state], ["open", "open", "open"], `theft reported after ${theft} ms`);
    await world.pass(60_000);
    assert.equal(conn(world).length, 1);
    assert.equal(kinds(world, "hello").length, 2);
    assert.equal(world.server.sockets.size, 1);
    clean(world);
  }
});

test("a page that closes is missed even if a former leader hangs", async () => {
  const world = new World();
  const [a, b, c] = [world.open({ hidden: true }), world.open({ hidden: true }), world.open()];
  await world.pass(100);
  a.stopped = c.stopped = true;
  await world.pass(90_000); // b leads now
  c.stopped = false;
  await world.pass(1000);
  const seen = () => [...world.server.conns.values()][0];
  assert.equal(seen().visible, true);
  c.leave();
  await world.pass(100);
  assert.equal(seen().visible, false);
  assert.equal(b.state, "open");
  clean(world);
});

test("a frozen page that follows is noticed, and returns", async () => {
  const world = new World();
  const a = world.open({ hidden: true });
  const b = world.open();
  await world.pass(100);
  const seen = () => [...world.server.conns.values()][0];
  for (let i = 0; i < 3; i++) {
    assert.equal(seen().visible, true);
    b.freeze();
    await world.pass(100);
    assert.equal(seen().visible, false);
    assert.equal(world.held.get("presence:desk").queue.length, 0, "it does not wait for the lock");
    await world.pass(60_000);
    b.resume();
    await world.pass(100);
    assert.equal(b.state, "open");
  }
  assert.equal(a.state, "open");
  clean(world);
});

test("the connection continues without storage, from page to page", async () => {
  const world = new World();
  const a = world.open({ storing: false });
  world.open({ storing: false });
  await world.pass(200);
  a.leave();
  await world.pass(200);
  assert.equal(conn(world).length, 1);
  clean(world);
});

test("a new page changes nothing for the others", async () => {
  const world = new World();
  world.open();
  const b = world.open();
  await world.pass(200);
  b.told.length = 0;
  world.open();
  await world.pass(200);
  assert.deepEqual(b.told, []);
  clean(world);
});

test("a page that is closed while it opens stays closed", async () => {
  for (let ms = 0; ms < 80; ms++) {
    const world = new World();
    const page = world.open();
    await world.pass(ms);
    page.presence.close();
    await world.pass(1000);
    assert.equal(page.state, "closed");
    assert.equal(world.server.sockets.size, 0);
    assert.ok([...world.held.values()].every((l) => !l.holders.size && !l.queue.length));
    clean(world);
  }
});

test("a reload resumes the connection", async () => {
  const world = new World();
  const page = world.open();
  await world.pass(1000);
  page.leave();
  await world.pass(800);
  world.open();
  await world.pass(30_000);
  assert.deepEqual(world.server.log.map((l) => l[2]), ["joined"]);
  assert.equal(kinds(world, "bye")[0].cause, "closed");
  clean(world);
});

test("back from the cache: the connection resumes, with the missed frames", async () => {
  const world = new World();
  const page = world.open();
  const [sales] = await Promise.all([page.presence.watch("sales"), world.pass(500)]);
  page.leave(true);
  await world.pass(3000);
  world.server.change("sales", "bob", { id: "bob", status: "away" });
  assert.equal(page.state, "suspended");
  assert.equal(world.channels.size, 0, "a message to a page in the cache would drop it from there");
  assert.ok([...world.held.values()].every((l) => !l.holders.size && !l.queue.length), "it keeps no lock from others");
  page.resume(true);
  await world.pass(200);
  assert.equal(page.state, "open");
  assert.deepEqual(list(sales), [{ id: "bob", status: "away" }]);
  assert.equal(kinds(world, "suspend").length, 1);
  await world.pass(30_000);
  assert.deepEqual(world.server.log.map((l) => l[2]), ["joined"]);
  clean(world);
});

test("a frozen leader leaves the lead to another page, and returns as a follower", async () => {
  const world = new World();
  const a = world.open();
  const b = world.open();
  const watching = [a.presence.watch("sales"), b.presence.watch("sales")];
  await world.pass(200);
  a.freeze();
  await world.pass(300);
  assert.equal(b.state, "open");
  world.server.change("sales", "bob", { id: "bob", status: "away" });
  await world.pass(60_000);
  a.resume();
  await world.pass(300);
  assert.equal(a.state, "open");
  assert.equal(world.server.sockets.size, 1);
  for (const sales of await Promise.all(watching)) assert.deepEqual(list(sales), [{ id: "bob", status: "away" }]);
  assert.deepEqual(world.server.log.map((l) => l[2]), ["joined"]);
  clean(world);
});

test("a single frozen page ends its connection, and opens it again when it is shown", async () => {
  const world = new World();
  const page = world.open();
  await world.pass(200);
  page.freeze();
  await world.pass(60_000);
  page.resume();
  await world.pass(200);
  assert.deepEqual(world.server.log.map((l) => [l[2], l[3]]), [["joined", undefined], ["left", "closed"], ["joined", undefined]]);
  assert.equal(conn(world).length, 1);
  clean(world);
});

test("after sleep it reconnects at once, and its idle time has grown", async () => {
  const world = new World();
  const page = world.open();
  await world.pass(100);
  page.press();
  await world.pass(1000);
  world.server.breakAll(); // none of this arrives while the computer sleeps
  world.tasks = world.tasks.filter((t) => t.page != page || t.at > world.now + 10);
  world.sleep(3_600_000);
  await world.pass(13_000);
  const { idle } = kinds(world, "hello").at(-1);
  assert.equal(kinds(world, "hello").length, 2);
  assert.ok(idle > 3_600_000, `idle ${idle}`);
  assert.equal(page.state, "open");
  assert.equal(kinds(world, "input").length, 1, "waking is no input");
  clean(world);
});

test("tabs that wake together do not fight over the lead", async () => {
  const world = new World();
  const pages = [world.open(), world.open(), world.open(), world.open()];
  await world.pass(1000);
  for (const page of pages) page.stopped = true;
  await world.pass(3_600_000);
  for (const page of pages) page.stopped = false;
  await world.pass(100_000);
  assert.deepEqual(pages.map((page) => page.state), ["open", "open", "open", "open"]);
  assert.equal(kinds(world, "hello").length, 2);
  clean(world);
});

test("a clock that is set back makes no input younger", async () => {
  const world = new World();
  const page = world.open();
  await world.pass(100);
  page.press();
  world.date -= 86_400_000;
  await world.pass(25_000);
  const { idle } = kinds(world, "pong").at(-1);
  assert.ok(idle > 24_000 && idle < 25_200, `idle ${idle}`);
  clean(world);
});

test("tries again with full jitter, up to the cap, and at once when it helps", async () => {
  const world = new World({ seed: 7 });
  world.server.down = true;
  const page = world.open();
  const tries = [];
  page.presence.addEventListener("state", (e) => e.detail == "connecting" && tries.push(world.now));
  await world.pass(600_000);
  const gaps = tries.slice(1).map((t, i) => t - tries[i] - 25);
  assert.ok(gaps.length > 20 && gaps.length < 120, `${gaps.length} tries`);
  assert.ok(gaps.every((gap, i) => gap <= Math.min(30_000, 1000 * 2 ** (i + 1))), gaps.join());
  assert.ok(Math.max(...gaps) > 15_000, "it waits long");
  assert.ok(Math.min(...gaps.slice(8)) < 8_000, "but not always, so that pages that connect together reconnect apart");
  world.server.down = false;
  page.fire(page.window, "online");
  await world.pass(100);
  assert.equal(page.state, "open");
  clean(world);
});

test("a long wait is short again after a time without faults, and when online", async () => {
  const world = new World({ seed: 3 });
  const page = world.open();
  const waits = async (n) => {
    const tries = [];
    const note = (e) => e.detail == "connecting" && tries.push(world.now);
    page.presence.addEventListener("state", note);
    const began = world.now;
    while (tries.length < n) await world.pass(50);
    page.presence.removeEventListener("state", note);
    return tries.map((t, i) => t - (tries[i - 1] ?? began));
  };
  await world.pass(100);
  world.server.down = true;
  world.server.breakAll();
  await waits(12);
  page.fire(page.window, "online");
  const [, second, third] = await waits(3);
  assert.ok(second < 1200 && third < 2200, `${second} ${third}`);
  await waits(12);
  world.server.down = false;
  page.fire(page.window, "online");
  await world.pass(60_000);
  world.server.down = true;
  await waits.call(null, 0);
  world.server.breakAll();
  const [first, next] = await waits(2);
  assert.ok(first < 1200 && next < 2200, `${first} ${next}`);
  clean(world);
});

for (const [what, happens] of [
  ["shown", (page) => page.hide(false)],
  ["online", (page) => page.fire(page.window, "online")],
]) {
  test(`a page that waits connects at once when it is ${what}`, async () => {
    const world = new World();
    const page = world.open({ hidden: true });
    await world.pass(100);
    world.server.down = true;
    world.server.breakAll();
    await world.pass(200_000);
    assert.equal(page.state, "waiting");
    world.server.down = false;
    happens(page);
    await world.pass(100);
    assert.equal(page.state, "open");
    clean(world);
  });
}

test("a socket that hangs is given up", async () => {
  const world = new World();
  world.online = false;
  const page = world.open();
  await world.pass(15_000);
  world.online = true;
  await world.pass(15_000);
  assert.equal(page.state, "open");
  clean(world);
});

test("a dead socket is noticed by silence, within the lease and its grace", async () => {
  const world = new World();
  const page = world.open();
  await world.pass(1000);
  world.online = false;
  await world.pass(50_000);
  assert.equal(page.state, "open");
  world.online = true; // but the old socket stays dead
  for (const s of world.server.sockets) s.receive = () => {};
  await world.pass(20_000);
  assert.equal(page.state, "open");
  assert.equal(kinds(world, "hello").length, 2);
  assert.deepEqual(world.server.log.map((l) => l[2]), ["joined"]);
  clean(world);
});

for (const code of [1002, 1009]) {
  test(`does not reconnect after ${code}, whatever happens`, async () => {
    const world = new World();
    const page = world.open();
    const other = world.open();
    await world.pass(100);
    for (const s of [...world.server.sockets]) s.lose(code);
    await world.pass(100_000);
    page.hide();
    page.hide(false);
    page.fire(page.window, "online");
    await world.pass(400_000);
    assert.deepEqual([page.state, other.state], ["refused", "refused"]);
    assert.equal(kinds(world, "hello").length, 1);
    other.presence.close();
    page.presence.close();
    page.presence.open();
    await world.pass(100);
    assert.equal(page.state, "open", "open connects again");
    clean(world);
  });
}

test("after a close with 1000 it reconnects for a reason", async () => {
  const world = new World();
  const page = world.open();
  await world.pass(100);
  for (const s of [...world.server.sockets]) s.lose(1000);
  await world.pass(100_000);
  assert.equal(page.state, "waiting");
  page.hide();
  page.hide(false);
  await world.pass(100);
  assert.equal(page.state, "open");
  clean(world);
});

test("a duplicated tab on its own takes another connection", async () => {
  const world = new World();
  const session = new Map();
  const a = world.open({ shared: false, session });
  await world.pass(100);
  const b = world.open({ shared: false, session: new Map(session) });
  await world.pass(5000);
  assert.deepEqual([a.state, b.state], ["open", "open"]);
  assert.equal(world.server.sockets.size, 2);
  assert.equal(conn(world).length, 2);
  await world.pass(60_000);
  assert.equal(world.server.sockets.size, 2, "the connections do not disturb each other");
  clean(world);
});

for (const [what, options, before] of [
  ["the browser has no locks", { locks: false }],
  ["the options say so", { shared: false }],
  ["locks are refused", { start: false }, (page) => (page.noLocks = true)],
]) {
  test(`a page is on its own if ${what}`, async () => {
    const world = new World();
    const pages = [world.open(options), world.open(options)];
    for (const page of pages) {
      before?.(page);
      page.presence.open();
    }
    await world.pass(300);
    assert.equal(world.server.sockets.size, 2);
    assert.deepEqual(pages.map((p) => p.state), ["open", "open"]);
    const [sales] = await Promise.all([pages[0].presence.watch("sales"), world.pass(100)]);
    world.server.change("sales", "bob", { id: "bob", status: "away" });
    await world.pass(50);
    assert.equal(list(sales).length, 1);
    pages[0].leave();
    await world.pass(50);
    assert.equal(world.server.sockets.size, 1);
    clean(world);
  });
}

test("claims and releases are answered, by the error of the server too", async () => {
  const world = new World();
  const a = world.open();
  const b = world.open();
  await world.pass(200);
  for (const page of [a, b]) {
    const answer = page.presence.claim("busy", { for: 60_000, reason: "call", text: "back at ten" });
    await world.pass(100);
    assert.equal((await answer).status, "busy");
    const refused = page.presence.claim("lunch").catch((e) => e);
    await world.pass(100);
    const error = await refused;
    assert.ok(error instanceof page.PresenceError);
    assert.deepEqual([error.name, error.code, plain(error.allowed)], ["PresenceError", "unknown", ["available", "busy"]]);
    const asked = page.presence.ask({ type: "request", status: "lunch" });
    await world.pass(100);
    assert.equal((await asked).request, "lunch");
    const released = page.presence.release("base");
    await world.pass(100);
    assert.equal((await released).status, "available");
  }
  assert.deepEqual(plain(kinds(world, "claim")[0]), { type: "claim", status: "busy", for: 60_000, reason: "call", text: "back at ten", ref: kinds(world, "claim")[0].ref });
  assert.equal(plain(a.presence.self).status, "busy", "as in the last self");
  assert.deepEqual([a.errors, b.errors], [[], []]);
  clean(world);
});

test("a call while disconnected waits for a connection, but not for long", async () => {
  const world = new World();
  world.server.down = true;
  const a = world.open();
  const b = world.open();
  await world.pass(1000);
  const late = a.presence.claim("busy").catch((e) => e.code);
  await world.pass(10_001);
  assert.equal(await late, "unavailable");
  const soon = [a.presence.claim("busy"), b.presence.claim("away")];
  world.server.down = false;
  a.fire(a.window, "online");
  await world.pass(500);
  assert.deepEqual((await Promise.all(soon)).map((v) => v.status), ["busy", "away"]);
  const lost = b.presence.claim("never").catch((e) => e.code);
  await world.pass(10_001);
  assert.equal(await lost, "unavailable");
  clean(world);
});

test("a call before the welcome is sent once", async () => {
  const world = new World();
  const page = world.open();
  while (!kinds(world, "hello").length) await world.pass(1);
  assert.equal(page.state, "connecting");
  const [answer] = await Promise.all([page.presence.claim("busy"), world.pass(100)]);
  assert.equal(answer.status, "busy");
  assert.equal([...world.server.conns.values()][0].claims, 1);
  clean(world);
});

test("a call to a leader that closed is sent to the next one", async () => {
  const world = new World();
  const a = world.open();
  const b = world.open();
  await world.pass(200);
  const answer = b.presence.claim("busy");
  a.crash();
  await world.pass(500);
  assert.equal((await answer).status, "busy");
  clean(world);
});

test("a connection that the server has forgotten is made again", async () => {
  const world = new World();
  const page = world.open();
  await world.pass(200);
  const [s] = world.server.sockets;
  const answer = page.presence.claim("never");
  await world.pass(100);
  s.receive({ type: "error", v: 1, code: "stale", ref: kinds(world, "claim")[0].ref, message: "presence: stale" });
  await world.pass(100);
  assert.equal(kinds(world, "hello").length, 2);
  assert.equal(kinds(world, "claim").length, 2, "the refused call is sent again");
  await Promise.all([answer.catch(() => {}), world.pass(10_000)]);
  clean(world);
});

test("watching: refused, ended by the server, unavailable for a while, watched twice", async () => {
  const world = new World();
  const a = world.open();
  const b = world.open();
  await world.pass(200);
  world.server.forbidden.add("board");
  const refused = b.presence.watch("board").catch((e) => e.code);
  await world.pass(100);
  assert.equal(await refused, "not-allowed");

  const [first, second] = [b.presence.watch("sales"), b.presence.watch("sales")];
  await world.pass(100);
  assert.equal(await first, await second);
  b.presence.unwatch("sales");
  world.server.change("sales", "bob", { id: "bob", status: "away" });
  await world.pass(100);
  assert.equal(list(await first).length, 1, "one of the two still watches");
  b.presence.unwatch("sales");
  b.presence.unwatch("sales");
  await world.pass(100);
  assert.equal(kinds(world, "unwatch").length, 1);
  const [third] = await Promise.all([b.presence.watch("sales"), world.pass(100)]);
  assert.notEqual(third, await first, "a channel that is not watched is forgotten");
  assert.equal(kinds(world, "watch").at(-1).epoch, undefined, "by the leader too");
  b.presence.unwatch("sales");
  await world.pass(100);

  const [mine, others] = await Promise.all([a.presence.watch("sales"), b.presence.watch("sales"), world.pass(200)]);
  assert.deepEqual(list(mine), list(others));
  assert.equal(kinds(world, "watch").filter((m) => m.channel == "sales").length, 3, "one watch is enough for both");
  world.server.remove("sales");
  await world.pass(100);
  for (const page of [a, b]) {
    const [type, { channel, error }] = page.told.at(-1);
    assert.deepEqual([type, channel.id, error.code], ["removed", "sales", "not-allowed"]);
  }

  world.server.unavailable = true;
  const later = b.presence.watch("support");
  await world.pass(20_000);
  world.server.unavailable = false;
  await world.pass(6000);
  assert.equal((await later).id, "support");
  clean(world);
});

test("a refused watch is not tried again when another page sends a message", async () => {
  const world = new World();
  const [a, b, c] = [world.open(), world.open(), world.open()];
  await world.pass(200);
  world.server.forbidden.add("board");
  const refused = b.presence.watch("board").catch((e) => e.code);
  for (let i = 0; i < 40; i++) {
    c.presence.focus(`room ${i}`);
    await world.pass(1);
  }
  assert.equal(await refused, "not-allowed");
  assert.equal(kinds(world, "watch").length, 1);
  assert.equal(a.state, "open");
  clean(world);
});

test("a frame of another epoch does not fit", async () => {
  const world = new World();
  const page = world.open();
  const [sales] = await Promise.all([page.presence.watch("sales"), world.pass(300)]);
  const list_ = world.server.list("sales");
  list_.members.set("eve", { id: "eve", status: "away" });
  list_.epoch = "e2";
  world.server.change("sales", "bob", { id: "bob", status: "busy" });
  await world.pass(100);
  assert.deepEqual([...sales.members.keys()].sort(), ["bob", "eve"]);
  clean(world);
});

test("a frame that does not fit brings a snapshot", async () => {
  const world = new World();
  const a = world.open();
  const b = world.open();
  const lists = [a.presence.watch("sales"), b.presence.watch("sales")];
  await world.pass(300);
  world.server.change("sales", "bob", { id: "bob", status: "away" });
  await world.pass(100);
  const keep = [...world.server.sockets][0].receive;
  [...world.server.sockets][0].receive = () => {};
  world.server.change("sales", "bob", { id: "bob", status: "busy" });
  [...world.server.sockets][0].receive = keep;
  world.server.change("sales", "cyd", { id: "cyd", status: "away" });
  await world.pass(200);
  for (const sales of await Promise.all(lists)) assert.deepEqual(list(sales), [{ id: "bob", status: "busy" }, { id: "cyd", status: "away" }]);
  clean(world);
});

test("frames that arrive before a requested snapshot request no second one", async () => {
  const world = new World();
  const pages = [world.open(), world.open()];
  const lists = pages.map((page) => page.presence.watch("sales"));
  await world.pass(300);
  world.server.change("sales", "bob", { id: "bob", status: "away" });
  await world.pass(100);
  world.server.list("sales").seq++; // a frame is missing
  for (let i = 0; i < 30; i++) world.server.change("sales", `p${i}`, { id: `p${i}`, status: "away" });
  await world.pass(500);
  for (const sales of await Promise.all(lists)) assert.equal(sales.members.size, 31);
  assert.equal(kinds(world, "watch").length, 2);
  clean(world);
});

test("after the server dropped a message over the rate, the page connects again", async () => {
  const world = new World();
  const page = world.open();
  const [sales] = await Promise.all([page.presence.watch("sales"), world.pass(300)]);
  const [s] = world.server.sockets;
  const claim = page.presence.claim("busy");
  world.tasks = world.tasks.filter((t) => t.page != null || t.at > world.now + 10); // the claim
  s.receive({ type: "error", v: 1, code: "rate", message: "presence: too fast" });
  await world.pass(2000);
  assert.equal((await claim).status, "busy");
  world.server.change("sales", "bob", { id: "bob", status: "away" });
  await world.pass(50);
  assert.equal(sales.members.size, 1);
  clean(world);
});

test("a page that closes before its stream opens sends nothing", async () => {
  const world = new World();
  world.server.onlyStreams = true;
  const page = world.open({ sse: "/presence" });
  await world.pass(100); // the WebSocket is refused
  while (page.state != "connecting") await world.pass(1);
  page.press();
  page.leave();
  await world.pass(5000);
  assert.deepEqual(kinds(world, "bye"), []);
  clean(world);
});

test("a snapshot is reported as its changes", async () => {
  const world = new World();
  const page = world.open();
  world.server.change("sales", "bob", { id: "bob", status: "away" });
  world.server.change("sales", "cyd", { id: "cyd", status: "away" });
  await Promise.all([page.presence.watch("sales"), world.pass(200)]);
  page.told.length = 0;
  world.server.renew("sales");
  await world.pass(50);
  assert.deepEqual(plain(page.told.map(([, d]) => d.changes)), [[]]);
  const { members } = world.server.list("sales");
  members.delete("bob");
  members.set("cyd", { id: "cyd", status: "busy" });
  members.set("dan", { id: "dan", status: "away" });
  world.server.renew("sales");
  await world.pass(50);
  assert.deepEqual(plain(page.told.at(-1)[1].changes), [
    { op: "updated", id: "cyd", view: { id: "cyd", status: "busy" } },
    { op: "joined", id: "dan", view: { id: "dan", status: "away" } },
    { op: "left", id: "bob" },
  ]);
  clean(world);
});

test("logging out ends all pages at once, closing one only that", async () => {
  const world = new World();
  const [a, b, c] = [world.open(), world.open(), world.open()];
  await world.pass(300);
  c.presence.close();
  assert.equal(c.state, "closed");
  await world.pass(100);
  assert.deepEqual([a.state, b.state], ["open", "open"]);
  b.presence.logout();
  await world.pass(100);
  assert.deepEqual([a.state, b.state, c.state], ["logout", "logout", "closed"]);
  assert.deepEqual(world.server.log.map((l) => l[3]), [undefined, "logout"]);
  a.hide();
  a.hide(false);
  a.fire(a.window, "pageshow", { persisted: true });
  await world.pass(100_000);
  assert.equal(world.server.sockets.size, 0);
  b.presence.open({ login: true });
  await world.pass(100);
  assert.equal(b.state, "open");
  assert.equal(kinds(world, "hello").at(-1).login, true);
  clean(world);
});

test("a login is sent once, by the leader", async () => {
  const world = new World();
  const a = world.open();
  await world.pass(200);
  const b = world.open({ start: false });
  b.presence.open({ login: true });
  await world.pass(200);
  b.press();
  b.hide();
  await world.pass(100);
  assert.deepEqual(kinds(world, "hello").map((m) => Boolean(m.login)), [false, true]);
  world.server.breakAll();
  await world.pass(5000);
  assert.deepEqual(kinds(world, "hello").map((m) => Boolean(m.login)), [false, true, false]);
  a.presence.open({ login: true });
  await world.pass(100);
  world.server.breakAll();
  await world.pass(5000);
  assert.deepEqual(kinds(world, "hello").map((m) => Boolean(m.login)), [false, true, false, true, false]);
  clean(world);
});

test("the focus is that of the focused window", async () => {
  const world = new World();
  const a = world.open();
  const b = world.open({ focused: false });
  await world.pass(200);
  a.presence.focus("sales");
  b.presence.focus("support");
  await world.pass(100);
  a.document.focused = false;
  a.fire(a.window, "blur");
  b.document.focused = true;
  b.fire(b.window, "focus");
  await world.pass(100);
  b.document.focused = false;
  b.fire(b.window, "blur");
  await world.pass(100);
  assert.deepEqual(kinds(world, "focus").map((m) => m.channel).filter((c, i, all) => c != all[i - 1]), ["sales", "", "support", ""]);
  b.document.focused = true;
  b.fire(b.window, "focus");
  await world.pass(100);
  world.server.breakAll();
  await world.pass(3000);
  assert.equal(kinds(world, "focus").at(-1).channel, "support");
  assert.equal(kinds(world, "focus").length, 6, "sent again over the new socket");
  clean(world);
});

test("visitors only watch: their pages send no message that visitors may not send", async () => {
  const world = new World();
  world.server.visitors = true;
  const page = world.open();
  await world.pass(100);
  page.presence.focus("sales");
  page.press();
  page.hide();
  await world.pass(26_000);
  assert.deepEqual([...new Set(world.server.heard.map(([, m]) => m.type))].filter((t) => t != "pong" && t != "hello"), []);
  clean(world);
});

test("a prerendered page does not connect yet", async () => {
  const world = new World();
  const page = world.open({ start: false });
  page.document.prerendering = true;
  page.presence.open();
  await world.pass(5000);
  assert.equal(world.server.sockets.size, 0);
  page.document.prerendering = false;
  page.fire(page.document, "prerenderingchange");
  await world.pass(100);
  assert.equal(page.state, "open");
  clean(world);
});

test("each try has a token, fetched again", async () => {
  const world = new World();
  let n = 0;
  const page = world.open({
    token: async () => {
      if (n++ == 1) throw new Error("not now");
      return `häßlich?>${n}`.replace(/[^\x20-\xff]/g, "");
    },
  });
  await world.pass(100);
  const [first] = world.server.sockets;
  assert.equal(first.protocols[0], "presence.v1");
  const sent = first.protocols[1].replace(/^token\./, "");
  assert.match(sent, /^[\w-]+$/);
  assert.equal(Buffer.from(sent, "base64url").toString("latin1"), "häßlich?>1");
  world.server.breakAll();
  await world.pass(5000);
  assert.equal(page.state, "open");
  assert.equal(n, 3);
  clean(world);
});

test("a slow token does not make two sockets", async () => {
  const world = new World();
  const page = world.open({ start: false, token: () => new Promise((resolve) => world.task(null, 3000, () => resolve("secret"))) });
  page.presence.open();
  await world.pass(1000);
  page.fire(page.window, "online");
  await world.pass(10_000);
  assert.equal(page.state, "open");
  assert.equal(world.dials, 1);
  clean(world);
});

test("a page without WebSockets uses a stream of events", async () => {
  const world = new World();
  world.server.onlyStreams = true;
  const page = world.open({ sse: "/presence" });
  const watching = page.presence.watch("sales");
  await world.pass(3000);
  assert.equal(page.state, "open");
  const sales = await watching;
  world.server.change("sales", "bob", { id: "bob", status: "away" });
  await world.pass(50);
  assert.equal(list(sales).length, 1);
  const answer = page.presence.claim("busy");
  await world.pass(100);
  assert.equal((await answer).status, "busy");
  page.press();
  await world.pass(25_000);
  assert.ok(kinds(world, "pong")[0].idle > 0);
  world.server.breakAll();
  await world.pass(5000);
  assert.equal(page.state, "open");
  assert.equal(world.dials, 1, "and again, without trying a socket first");
  world.server.streams.clear(); // the server has forgotten the stream and its messages
  page.presence.claim("busy").catch(() => {});
  await world.pass(5000);
  assert.equal(kinds(world, "hello").length, 3);
  assert.equal([...world.server.conns.values()][0].claims, 2);
  page.leave();
  await world.pass(10_000);
  assert.equal(kinds(world, "bye").length, 1);
  assert.deepEqual(world.server.log.map((l) => [l[2], l[3]]), [["joined", undefined], ["left", "closed"]]);
  clean(world);
});

test("a page whose WebSocket opened once never changes to a stream", async () => {
  const world = new World();
  const page = world.open({ sse: "/presence" });
  await world.pass(100);
  world.server.down = true;
  world.server.breakAll();
  await world.pass(100_000);
  world.server.down = false;
  await world.pass(31_000);
  assert.equal(page.state, "open");
  assert.equal(world.server.streams.size, 0);
  clean(world);
});

// --- against a model

const channels = ["sales", "support", "board"];
const people = ["ann", "bob", "cyd", "dan", "eve"];
const statuses = ["available", "away", "busy"];

test("whatever happens, every page ends with the lists of the server, over one connection", async (t) => {
  for (let seed = 1; seed <= 100; seed++) {
    const world = new World({ seed });
    const random = chance(seed * 7919);
    const pick = (from) => from[Math.floor(random() * from.length)];
    const trace = [];
    const happen = {
      async open() {
        if (world.pages.length < 4) world.open({ hidden: random() < 0.5 });
      },
      watch: (page) => void page.presence.watch((trace.at(-1).channel = pick(channels))).catch(() => {}),
      unwatch: (page) => page.presence.unwatch(pick(channels)),
      change: () => world.server.change(pick(channels), pick(people), random() < 0.3 ? undefined : { id: "", status: pick(statuses) }),
      renew: () => world.server.renew(pick(channels), random() < 0.5),
      leave: (page) => page.leave(),
      crash: (page) => page.crash(),
      cache: (page) => !page.stopped && page.leave(true),
      freeze: (page) => !page.stopped && page.freeze(),
      stop: (page) => (page.stopped = true),
      resume: (page) => page.stopped && page.resume(random() < 0.5),
      hide: (page) => page.hide(!page.document.hidden),
      press: (page) => page.press(),
      break: () => world.server.breakAll(),
      down: () => (world.server.down = !world.server.down),
      offline: () => (world.online = !world.online),
      online: (page) => page.fire(page.window, "online"),
      focus: (page) => page.presence.focus(pick(channels)),
      pass: () => world.pass(pick([1, 10, 100, 1000, 10_000, 60_000])),
    };
    const change = world.server.change.bind(world.server);
    world.server.change = (channel, id, view) => change(channel, id, view && { ...view, id });
    try {
      world.open();
      for (let step = 0; step < 60; step++) {
        const awake = world.pages.filter((p) => !p.stopped);
        const what = pick(["pass", "pass", "pass", "change", "change", "change", "watch", "watch", ...(awake.length ? [] : ["open", "resume"]), ...Object.keys(happen)]);
        const page = pick(what == "resume" ? world.pages.filter((p) => p.stopped) : awake);
  
        trace.push({ what, page: world.pages.indexOf(page) });
        if (page || ["open", "change", "renew", "pass", "down", "offline", "break"].includes(what)) await happen[what](page);
        await world.pass(pick([0, 0, 1, 5, 20, 200]));
      }
      world.server.down = false;
      world.online = true;
      for (const page of world.pages) if (page.stopped) page.resume(true);
      await world.pass(400_000);
      assert.equal(world.server.sockets.size, Math.min(1, world.pages.length));
      for (const page of world.pages) {
        assert.equal(page.state, "open");
        for (const id of channels) {
          page.presence.watch(id);
        }
      }
      await world.pass(1000);
      for (const page of world.pages) {
        for (const id of channels) {
          const [channel] = await Promise.all([page.presence.watch(id), world.pass(1)]);
          assert.deepEqual(list(channel), plain([...world.server.list(id).members.values()].sort((a, b) => a.id.localeCompare(b.id))), id);
          assert.deepEqual(channel.group.count, channel.members.size);
        }
      }
      assert.ok(conn(world).filter((id) => world.server.conns.get(id).present).length <= 1, "at most one connection is present");
      clean(world);
    } catch (error) {
      t.diagnostic(`seed ${seed}: ${JSON.stringify(trace)}`);
      throw error;
    }
  }
});
