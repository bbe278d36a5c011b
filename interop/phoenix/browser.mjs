// The npm packages phoenix and @supabase/realtime-js, unmodified, as modules in
// Chromium. Usage: node browser.mjs URL

import assert from "node:assert/strict";
import { chromium } from "playwright-core";
import { check, run, server, settled, sleep, url } from "./check.mjs";

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

// The script of a page for each client. It runs in the page.
const scripts = {
  phoenix: async (token) => {
    const { Socket, Presence } = await import("phoenix");
    const socket = new Socket("/socket", { params: { token } });
    socket.connect();
    const channel = socket.channel("sales", {});
    const presence = new Presence(channel);
    window.list = () => presence.state;
    window.keys = () => presence.list((key) => key);
    presence.onSync(() => window.note());
    window.choose = (status) => new Promise((resolve, reject) => channel.push("claim", { status }).receive("ok", resolve).receive("error", reject));
    await new Promise((resolve, reject) => channel.join().receive("ok", resolve).receive("error", reject));
  },
  supabase: async (token) => {
    const { RealtimeClient } = await import("@supabase/realtime-js");
    const realtime = new RealtimeClient(`ws://${location.host}/realtime/v1`, { params: { apikey: token } });
    const channel = realtime.channel("sales");
    window.list = () => channel.presenceState();
    window.keys = () => Object.keys(channel.presenceState());
    channel.on("presence", { event: "sync" }, () => window.note());
    window.choose = (status) => channel.track({ status });
    await new Promise((resolve, reject) => channel.subscribe((status, error) => (status === "SUBSCRIBED" ? resolve() : reject(error ?? new Error(status)))));
    if (!token.includes(":")) await channel.track({});
  },
};

// Opens a page as a user. The page notes every member that was gone at any time.
async function open(kind, token) {
  const page = await browser.newPage();
  page.on("pageerror", (error) => {
    console.error(error);
    process.exit(1);
  });
  await page.goto(`${url}/page`);
  await enter(page, kind, token);
  return page;
}

async function enter(page, kind, token) {
  await page.evaluate(() => {
    window.gone = [];
    let before = [];
    window.note = () => {
      const now = window.keys();
      window.gone.push(...before.filter((key) => !now.includes(key)));
      before = now;
    };
  });
  await page.evaluate(scripts[kind], token);
}

const sees = (page, key, status) =>
  page.waitForFunction(
    ([key, status]) => {
      const entry = window.list()[key];
      return (entry?.metas ?? entry)?.[0]?.status === status;
    },
    [key, status],
    { timeout: 10000 },
  );

for (const kind of Object.keys(scripts)) {
  let bob, guest, ann;

  check(`${kind}: two agents and a visitor`, async () => {
    [bob, guest, ann] = await Promise.all([open(kind, "bob"), open(kind, "guest:visitor"), open(kind, "ann")]);
    await ann.evaluate(() => window.choose("available"));
    await sees(bob, "ann", "available");
    await sees(guest, "bob", "available");
    assert.equal(await bob.evaluate(() => window.keys().includes("guest")), false);
  });

  check(`${kind}: a status change without a flicker`, async () => {
    for (const status of ["busy", "away", "busy"]) {
      await ann.evaluate((status) => window.choose(status), status);
      await sees(bob, "ann", status);
      await sees(guest, "ann", status);
    }
    assert.deepEqual(await bob.evaluate(() => window.gone), []);
  });

  check(`${kind}: no watcher sees a reload`, async () => {
    await ann.reload();
    await enter(ann, kind, "ann");
    await sleep(4000);
    await sees(bob, "ann", "busy");
    assert.deepEqual(await bob.evaluate(() => window.gone), []);
  });

  check(`${kind}: after a cut all clients reconnect`, async () => {
    await server("cut");
    await sleep(3000);
    await ann.evaluate(() => window.choose("available"));
    await sees(bob, "ann", "available");
    await sees(guest, "ann", "available");
  });

  check(`${kind}: the member of a closed tab is removed after the grace`, async () => {
    await ann.evaluate(() => window.choose("busy"));
    await sees(bob, "ann", "busy");
    await ann.close();
    await sleep(500);
    await sees(bob, "ann", "busy");
    await bob.waitForFunction(() => !window.list().ann, null, { timeout: 10000 });
  });

  check(`${kind}: random scripts`, async () => {
    for (const seed of [21, 22]) {
      await server("script", { seed });
      for (const [audience, page] of [["team", bob], ["visitor", guest]]) {
        let list = {};
        const poll = setInterval(async () => (list = await page.evaluate(() => JSON.parse(JSON.stringify(window.list()))).catch(() => list)), 50);
        await settled(audience, () => list).finally(() => clearInterval(poll));
      }
    }
    await Promise.all([bob.close(), guest.close()]);
    await sleep(4000);
  });
}

await run("Chromium");
