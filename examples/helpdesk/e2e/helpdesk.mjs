// Drives the help desk in real Chromium windows, like people, and checks the
// windows. Usage: node helpdesk.mjs URL OUT. A help desk must serve at URL.
// Screenshots are written to the folder OUT. Exits 1 if a check fails.

import { mkdirSync, readFileSync, readdirSync } from "node:fs";
import net from "node:net";
import { chromium } from "playwright-core";

const [url, out = "artifacts"] = process.argv.slice(2);
if (!url) {
  console.error("usage: node helpdesk.mjs URL [OUT]");
  process.exit(2);
}
mkdirSync(out, { recursive: true });

const SPEED = 20; // heartbeats every 1.25 s, lost after 3 s, idle after 15 s
const PATIENCE = 45000;

// A proxy that can be cut. While it is cut it passes on no bytes and closes no
// socket.
function cable(to) {
  const sockets = new Set();
  let cut = false;
  const server = net.createServer((inside) => {
    const outside = net.connect(to.port, to.hostname);
    for (const [from, target] of [[inside, outside], [outside, inside]]) {
      sockets.add(from);
      from.on("data", (data) => cut || target.write(data));
      from.on("close", () => cut || target.destroy());
      from.on("error", () => {});
    }
  });
  return new Promise((resolve) =>
    server.listen(0, "127.0.0.1", () =>
      resolve({
        url: `http://127.0.0.1:${server.address().port}`,
        cut: () => (cut = true),
        mend() {
          cut = false;
          for (const s of sockets) s.destroy(); // sockets opened before an outage are dead after it
          sockets.clear();
        },
        close() {
          for (const s of sockets) s.destroy();
          server.close();
        },
      }),
    ),
  );
}

const post = async (path, body) => {
  const answer = await fetch(url + path, { method: "POST", body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${path}: ${await answer.text()}`);
};

const launch = () => chromium.launchServer({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  ignoreDefaultArgs: ["--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding"],
});
const servers = [await launch(), await launch()];
const [browser, anns] = await Promise.all(servers.map((s) => chromium.connect(s.wsEndpoint())));

// Returns the processes of a browser's pages. A stopped process freezes its pages
// wholly, while the browser itself still answers for them.
function renderers(server) {
  const parent = new Map();
  const found = [];
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number)) {
    try {
      parent.set(pid, Number(readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) \S /, "").split(" ")[0]));
      if (readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("--type=renderer")) found.push(pid);
    } catch {
      // the process has ended
    }
  }
  const root = server.process().pid;
  return found.filter((pid) => {
    while (pid > 1 && pid !== root) pid = parent.get(pid) ?? 0;
    return pid === root;
  });
}
const signal = (name) => () => renderers(servers[1]).forEach((pid) => process.kill(pid, name));

let failed = 0;
let shot = 0;
const errors = [];

async function person(browser) {
  const context = await browser.newContext({ viewport: { width: 420, height: 640 } });
  context.on("page", (page) => page.on("pageerror", (e) => errors.push(e.message)));
  return context;
}

async function check(name, ...steps) {
  const began = Date.now();
  try {
    for (const step of steps) await step();
    console.log(`ok    ${name}  (${Date.now() - began} ms)`);
  } catch (error) {
    failed++;
    console.log(`FAIL  ${name}: ${error.message.split("\n").slice(0, 4).join(" | ")}`);
  }
  for (const [who, page] of Object.entries(open)) {
    if (!page.isClosed()) await page.screenshot({ timeout: 3000, path: `${out}/${String(shot).padStart(2, "0")}-${name.replace(/[^a-zA-Z0-9]+/g, "-")}-${who}.png` }).catch(() => {});
  }
  shot++;
}

const open = {}; // the pages to take screenshots of
const sees = (page, selector, attribute, value) => () =>
  page.waitForFunction(([s, a, v]) => document.querySelector(s)?.getAttribute(a) === v, [selector, attribute, value], { timeout: PATIENCE });
const reads = (page, id, text) => () =>
  page.waitForFunction(([i, t]) => document.querySelector(`[data-testid="${i}"]`)?.textContent.includes(t), [id, text], { timeout: PATIENCE });
const click = (page, id) => () => page.getByTestId(id).click();
const own = (page, status) => sees(page, "[data-testid=own-status]", "data-status", status);
const team = (page, who, status) => sees(page, `[data-testid=team-${who}]`, "data-status", status);
const listed = (page, who, status) => sees(page, `[data-testid=agent-${who}]`, "data-status", status);
const drawn = (page, who, status, cause) => () => page.waitForFunction(([w, s, c]) => document.querySelector(`[data-agent="${w}"][data-status="${s}"][data-cause="${c}"]`), [who, status, cause], { timeout: PATIENCE });
// Waits until the logout has reached the server, since the page does not wait for it.
const explained = (who, text) => async () => {
  for (const end = Date.now() + PATIENCE; ; await new Promise((next) => setTimeout(next, 20))) {
    const lines = await (await fetch(`${url}/api/explain?agent=${who}`)).json();
    if (JSON.stringify(lines).includes(text)) return;
    if (Date.now() > end) throw new Error(`${who} is explained by ${lines}, without ${text}`);
  }
};
const colour = (page, selector) => page.evaluate((s) => getComputedStyle(document.querySelector(s)).backgroundColor, selector);
function same(got, want, what) {
  if (got !== want) throw new Error(`${what}: wanted ${want}, got ${got}`);
}

const line = await cable(new URL(url));
const [annsBrowser, bobsBrowser, customersBrowser] = [await person(anns), await person(browser), await person(browser)];

async function start(policy) {
  await post("/api/speed", { speed: SPEED });
  await post("/api/policy", { policy });
}

// --- the working day of an agent, under the default policy

await start("default");
open.bob = await bobsBrowser.newPage();
await open.bob.goto(`${url}/console?agent=bob`);
open.widget = await customersBrowser.newPage();
await open.widget.goto(`${url}/widget?channel=sales`);
open.timeline = await customersBrowser.newPage();
await open.timeline.setViewportSize({ width: 1100, height: 260 });
await open.timeline.goto(`${url}/timeline`);
open.ann = await annsBrowser.newPage();
await open.ann.goto(`${line.url}/console?agent=ann`);

const everywhere = (status) => [team(open.bob, "ann", status), listed(open.widget, "ann", status)];

await check("online", own(open.ann, "available"), ...everywhere("available"), drawn(open.timeline, "ann", "available", "default"));
await check("busy by choice", click(open.ann, "set-busy"), own(open.ann, "busy"), ...everywhere("busy"), drawn(open.timeline, "ann", "busy", "manual"));
await check("available again", click(open.ann, "set-available"), own(open.ann, "available"), ...everywhere("available"));
await check("idle", own(open.ann, "away"), ...everywhere("away"), drawn(open.timeline, "ann", "away", "idle"));
await check("back at the keyboard", click(open.ann, "note"), own(open.ann, "available"), ...everywhere("available"));
await check("network lost", () => line.cut(), ...everywhere("offline"), drawn(open.timeline, "ann", "offline", "lost"));
await check("network back", () => line.mend(), own(open.ann, "available"), click(open.ann, "note"), ...everywhere("available"));
await check("frozen", signal("SIGSTOP"), ...everywhere("offline"), drawn(open.timeline, "ann", "offline", "lost"));
await check("thawed", signal("SIGCONT"), click(open.ann, "note"), own(open.ann, "available"), ...everywhere("available"));
await check("reload unseen", async () => {
  await post("/api/speed", { speed: 1 }); // the grace of five seconds for a reload runs in real time
  await open.bob.evaluate(() => {
    window.flickers = [];
    new MutationObserver(() => {
      const row = document.querySelector("[data-testid=team-ann]");
      if (row?.dataset.status !== "available") window.flickers.push(row?.dataset.status);
    }).observe(document.querySelector("[data-testid=team]"), { childList: true, subtree: true, attributes: true });
  });
  await open.ann.reload();
}, own(open.ann, "available"), async () => {
  await post("/api/speed", { speed: SPEED });
  await open.ann.waitForTimeout(1000);
  same((await open.bob.evaluate(() => window.flickers)).join(), "", "bob saw ann flicker");
}, click(open.ann, "note"));
await check("tab closed", () => open.ann.close({ runBeforeUnload: false }), ...everywhere("offline"), drawn(open.timeline, "ann", "offline", "closed"));
await check("opened again", async () => {
  open.ann = await annsBrowser.newPage();
  await open.ann.goto(`${line.url}/console?agent=ann`);
}, () => own(open.ann, "available")(), ...everywhere("available"));
await check("logged out", click(open.ann, "logout"), ...everywhere("offline"), click(open.ann, "back"), own(open.ann, "available"));
await check("simulated troubles", click(open.ann, "sleep"), ...everywhere("offline"), click(open.ann, "recover"), click(open.ann, "note"), ...everywhere("available"));
await check("errors shown", async () => {
  await post("/api/speed", { speed: 1 }); // the minute runs in real time, so that slow clicks fit in it
  for (let i = 0; i < 12; i++) await open.ann.getByTestId(i % 2 ? "set-busy" : "set-away").click();
}, reads(open.ann, "error", "times a minute"), () => post("/api/speed", { speed: SPEED }));
await check("why", () => open.ann.locator("#why summary").click(), reads(open.ann, "why", "connections live"));

// --- screens by the documents of the products

await open.bob.close();
await start("respondio");
await check("C2 own indicator", click(open.ann, "set-online"), own(open.ann, "online"), async () => {
  const green = await colour(open.ann, "#avatar .dot");
  same(green, "rgb(46, 158, 91)", "the indicator while online");
}, click(open.ann, "set-busy"), own(open.ann, "busy"), async () => {
  same(await colour(open.ann, "#avatar .dot"), "rgb(224, 161, 0)", "the indicator while busy");
});

await start("tawkto");
await open.ann.getByTestId("logout").click();
await open.ann.getByTestId("back").click();
await check("E5 green mark", own(open.ann, "online"), () => open.ann.locator("#profile summary").click(), async () => {
  same(await colour(open.ann, "#avatar .dot"), "rgb(46, 158, 91)", "on the dashboard");
  same(await colour(open.ann, "#profile-dot .dot"), "rgb(46, 158, 91)", "on the profile");
  same(await open.ann.locator("#profile-status").textContent(), "Online", "in words");
});
await check("E7 away greeting", reads(open.widget, "banner", "We are online"), async () => {
  await post("/api/greeting", { rung: "away", text: "Back at noon." });
}, click(open.ann, "set-away"), reads(open.widget, "banner", "We are away"), reads(open.widget, "greeting", "Back at noon."), async () => {
  const shown = await open.widget.getByTestId("greeting").textContent();
  if (shown.includes("Ask us anything")) throw new Error("the greeting is that of the online mode");
});
await check("E8 away form", async () => {
  await open.widget.getByTestId("contact").fill("kim@example.com");
  await open.widget.getByTestId("message").fill("Please call me back.");
  await open.widget.getByTestId("leave-send").click();
}, reads(open.widget, "answer", "we have your message"), async () => {
  const { messages } = await (await fetch(`${url}/api/state`)).json();
  same(messages.at(-1).from, "kim@example.com", "the message that was kept");
  same(messages.at(-1).text, "Please call me back.", "its text");
});
await check("E10 invisible works on", click(open.ann, "set-invisible"), own(open.ann, "invisible"), reads(open.widget, "banner", "We are offline"), async () => {
  await open.ann.getByTestId("note").fill("I am here all the same");
  await open.ann.getByTestId("note-send").click();
}, reads(open.ann, "notes", "ann: I am here all the same"), click(open.ann, "logout"), explained("ann", "logout"), async () => {
  const refused = await fetch(`${url}/api/notes`, { method: "POST", body: JSON.stringify({ from: "ann", text: "and now?" }) });
  same(refused.status, 403, "the same when logged out");
  same(await (await fetch(`${url}/api/state`)).json().then((s) => s.notes.at(-1).text), "I am here all the same", "the last note");
});

// --- work and its supervisors

await start("threads");
open.boss = await bobsBrowser.newPage();
await open.boss.setViewportSize({ width: 1000, height: 760 });
await open.boss.goto(`${url}/supervisor?supervisor`);
const labelled = (who, label) => sees(open.boss, `[data-testid=agent-${who}]`, "data-label", label);
const filtered = (n, text) => () => open.boss.waitForFunction(([i, t]) => document.querySelectorAll("#filter option")[i]?.textContent === t, [n, text], { timeout: PATIENCE });
const choose = (page, id, value) => () => page.getByTestId(id).selectOption(value);
const card = (who) => () => open.boss.getByTestId(`agent-${who}`).locator(".agent").click();
await check("agents work", click(open.ann, "back"), own(open.ann, "not-ready"), click(open.ann, "set-active"), own(open.ann, "active"), labelled("ann", "free"),
  reads(open.boss, "threads-ann", "0 threads"));
await check("a conversation begins", () => open.widget.locator("#chat").click(), labelled("ann", "active"), reads(open.ann, "mine", "Finish"), reads(open.boss, "threads-ann", "1 thread"));
await check("filter and counters", filtered(0, "All (3)"), filtered(2, "Active (1)"), choose(open.boss, "filter", "active"), async () => {
  same(await open.boss.locator("#agents > li").count(), 1, "listed");
}, choose(open.boss, "filter", "free"), async () => same(await open.boss.locator("#agents > li").count(), 0, "listed"), choose(open.boss, "filter", "all"));
await check("D28 card", card("ann"), () => open.boss.waitForFunction(() => document.querySelector("#card-name").textContent === "ann" && !document.querySelector("#card").hidden, null, { timeout: PATIENCE }),
  reads(open.boss, "card-status", "Active"));
await check("D29 change", choose(open.boss, "card-select", "training"), async () => {
  await new Promise((next) => setTimeout(next, 300));
  same(await open.boss.getByTestId("agent-ann").getAttribute("data-label"), "active", "selecting alone");
  same(await open.boss.getByTestId("card-select").inputValue(), "training", "the selection");
}, click(open.boss, "card-change"), labelled("ann", "finishing"), reads(open.ann, "mine-label", "finishing"));
await check("finishing ends", () => open.ann.locator("#mine-list button").first().click(), labelled("ann", "training"), own(open.ann, "training"), reads(open.boss, "card-status", "supervisor"));
await check("waiting", click(open.boss, "more"), reads(open.boss, "waiting-count", "1"), click(open.ann, "set-active"), reads(open.boss, "waiting-count", "0"), labelled("ann", "active"));
await check("approval bell", choose(open.ann, "request", "lunch"), () => open.boss.getByTestId("bell-ann").waitFor({ timeout: PATIENCE }), click(open.boss, "reject"),
  () => open.boss.getByTestId("bell-ann").waitFor({ state: "detached", timeout: PATIENCE }), reads(open.ann, "error", "rejected"), labelled("ann", "active"));
await check("kicked out", click(open.boss, "challenge"), () => open.ann.locator("#ask:not([hidden])").waitFor({ timeout: PATIENCE }), labelled("ann", "kicked-out"), reads(open.boss, "waiting-count", "1"));
await check("let in again", choose(open.boss, "card-select", "active"), click(open.boss, "card-change"), labelled("ann", "active"), reads(open.boss, "waiting-count", "0"));
await check("answered in time", click(open.boss, "challenge"), () => open.ann.locator("#ask:not([hidden])").waitFor({ timeout: PATIENCE }), click(open.ann, "still-here"), () => open.ann.locator("#ask").waitFor({ state: "hidden", timeout: PATIENCE }), labelled("ann", "active"));
await check("a reason is added", async () => {
  await open.boss.getByTestId("reason-id").fill("dentist");
  await open.boss.getByTestId("reason-add").click();
}, () => open.boss.getByTestId("reason-dentist").waitFor({ timeout: PATIENCE }), filtered(13, "dentist (0)"), () => open.ann.reload(), () => open.ann.getByTestId("set-dentist").waitFor({ timeout: PATIENCE }));
await check("opening hours", async () => {
  await open.boss.getByTestId("hours-text").fill("mon-sun 25:00-26:00");
}, click(open.boss, "hours-save"), reads(open.boss, "hours-state", "always open"), () => open.boss.waitForFunction(() => document.querySelector("#error").textContent !== "", null, { timeout: PATIENCE }), async () => {
  const hour = new Date((await (await fetch(`${url}/api/state`)).json()).now).getUTCHours();
  await open.boss.getByTestId("hours-text").fill(hour < 10 ? "mon-sun 12:00-24:00" : "mon-sun 00:00-09:00");
  await open.boss.getByTestId("hours-zone").fill("UTC");
}, click(open.boss, "hours-save"), reads(open.boss, "hours-state", "closed until"), reads(open.widget, "banner", "We are offline"), labelled("ann", "active"),
  async () => same((await fetch(`${url}/api/work`, { method: "POST", body: JSON.stringify({ do: "start", channel: "sales", from: "late" }) })).status, 403, "a new conversation"),
  () => open.boss.getByTestId("hours-text").fill(""), click(open.boss, "hours-save"), reads(open.boss, "hours-state", "always open"), reads(open.widget, "banner", "We are online"));
await check("the day", reads(open.boss, "sums", "Training"), () => open.boss.waitForFunction(() => document.querySelectorAll("#chart rect").length >= 3, null, { timeout: PATIENCE }), async () => {
  const csv = await (await fetch(`${url}/api/report/workload?hours=1&format=csv`)).text();
  same(csv.split("\n")[0], "tenant,subject,from,to,status,reason,seconds,times", "the head of the workload");
  same(csv.includes("kicked-out"), true, "kicked-out in the workload");
});

await check("no script failed", () => same(errors.join("; "), "", "errors of the pages"));
await start("default");
line.close();
await Promise.all(servers.map((s) => s.close()));
console.log(failed ? `${failed} failed` : "all passed");
process.exit(failed ? 1 : 0);
