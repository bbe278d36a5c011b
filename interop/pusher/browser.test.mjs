// The npm packages pusher-js and laravel-echo, unmodified, in Chromium.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { claim, grace, grant, nameOf, options, settled, sleep, until, url, who } from "./check.mjs";

let browser;
before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
});
after(() => browser.close());

// Opens a page as a user, with an Echo on a presence channel.
async function open(t, app, user, channel, page) {
  if (!page) {
    page = await browser.newPage();
    t.after(() => page.close());
  }
  await page.goto(`${url}/page`);
  await page.evaluate(([app, options, channel]) => {
    window.events = [];
    window.list = new Map();
    const id = (member) => member.id.split(".")[0];
    const echo = new Echo.default({ broadcaster: "pusher", key: `key-${app}`, ...options });
    window.echo = echo;
    return new Promise((resolve, reject) => {
      window.channel = echo.join(channel)
        .here((members) => { window.list = new Map(members.map((m) => [id(m), m])); resolve(); })
        .joining((m) => { window.list.set(id(m), m); window.events.push(`+${id(m)} ${m.status}`); })
        .leaving((m) => { window.list.delete(id(m)); window.events.push(`-${id(m)}`); })
        .error((e) => reject(new Error(JSON.stringify(e))));
    });
  }, [app, options(app, who(user, channel)), channel]);
  return page;
}

const events = (page) => page.evaluate(() => window.events);
const members = (page) => () => page.evaluate(() => window.channel.subscription.members.members);
const sees = (page, event) => until(`a page sees ${event}`, async () => (await events(page)).includes(event));

test("two windows, a status, a reload and the last one closed", async (t) => {
  await grant("default", "windows", "ann", "bob");
  const bob = await open(t, "default", "bob", "windows");
  const ann = await open(t, "default", "ann", "windows");
  const second = await open(t, "default", "ann", "windows");
  await sees(bob, "+ann available");
  await claim("default", "windows", "ann", "busy");
  await sees(bob, "+ann busy");
  assert.equal((await members(ann)())[who("ann", "windows")].status, "busy");
  await second.close();
  await open(t, "default", "ann", "windows", ann); // in the same window
  await sleep(grace + 1000);
  assert.deepEqual(await events(bob), ["+ann available", "+ann busy"]);
  await settled("default", "windows", "team", members(bob));
  await settled("default", "windows", "team", members(ann));
  await ann.close();
  await sees(bob, "-ann");
  await settled("default", "windows", "team", members(bob));
});

test("a visitor's window and one that is refused", async (t) => {
  await grant("thrivedesk", "counter", "ann", "bob");
  const visitor = await open(t, "thrivedesk", "visitor-1", "counter");
  assert.deepEqual(Object.keys(await members(visitor)()).map(nameOf).sort(), ["ann", "bob"]);
  assert.equal(await visitor.evaluate(() => window.channel.subscription.members.me), null);
  const ann = await open(t, "thrivedesk", "ann", "counter");
  await sees(visitor, "+ann online");
  assert.deepEqual(await events(ann), []);
  await assert.rejects(open(t, "thrivedesk", "stranger", "counter"), /403/);
  await settled("thrivedesk", "counter", "visitor", members(visitor));
});

// While a page's code does not run, its browser still answers pings for it.
test("a window whose code stands still is lost, and reconnects", async (t) => {
  await grant("default", "still", "ann", "bob");
  const bob = await open(t, "default", "bob", "still");
  const other = await browser.newContext(); // and so another process
  t.after(() => other.close());
  const ann = await open(t, "default", "ann", "still", await other.newPage());
  await sees(bob, "+ann available");
  await ann.evaluate(() => {
    window.stood = false;
    setTimeout(() => {
      for (const end = Date.now() + 10000; Date.now() < end; );
      window.stood = true;
    });
  });
  await sees(bob, "-ann");
  await until("ann is back", async () => (await events(bob)).at(-1) === "+ann available");
  assert.ok(await ann.evaluate(() => window.stood));
  await settled("default", "still", "team", members(bob));
  await settled("default", "still", "team", members(ann));
});

test("windows reconnect after an outage of the network", async (t) => {
  await grant("default", "offline", "ann", "bob");
  const bob = await open(t, "default", "bob", "offline");
  const ann = await open(t, "default", "ann", "offline");
  await sees(bob, "+ann available");
  await ann.context().setOffline(true);
  await ann.evaluate(() => window.echo.connector.pusher.connection.connection.transport.socket.close());
  await sees(bob, "-ann");
  await ann.context().setOffline(false);
  // Chromium may end the sockets of other windows too when the network returns.
  await until("ann is back", () => bob.evaluate(() => window.list.get("ann")?.status === "available"));
  await settled("default", "offline", "team", members(ann));
});
