// Drives pages that use the client in real Chromium windows, and checks the views
// of a colleague and a visitor. Usage: node run.js SERVER [--slow] [NAME...].
// SERVER is the built program of this folder. --slow adds the scenarios that take
// minutes. NAME runs only the scenarios with NAME in their title.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import net from "node:net";
import { Browser, pause } from "./browser.js";

const [program, ...rest] = process.argv.slice(2);
const slow = rest.includes("--slow");
const names = rest.filter((name) => name != "--slow");

// --- parts of the scenarios

const undo = [];
async function serve(...flags) {
  const server = spawn(program, flags, { stdio: ["ignore", "pipe", "inherit"] });
  undo.push(() => server.kill("SIGINT"));
  const url = await new Promise((resolve, reject) => {
    server.stdout.once("data", (data) => resolve(String(data).trim()));
    server.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
  });
  return url;
}

// A proxy that can be cut. While it is cut it passes on no bytes and closes no
// socket. After mend the delayed bytes arrive, as with TCP.
async function cable(to) {
  const { hostname, port } = new URL(to);
  const sockets = new Set();
  let cut = false;
  const server = net.createServer((inside) => {
    const outside = net.connect(port, hostname);
    for (const [from, target] of [[inside, outside], [outside, inside]]) {
      sockets.add(from);
      from.pipe(target);
      from.on("close", () => (target.destroy(), sockets.delete(from)));
      from.on("error", () => {});
      if (cut) from.pause();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  undo.push(() => (sockets.forEach((s) => s.destroy()), server.close()));
  const switched = (off) => () => {
    cut = off;
    sockets.forEach((s) => (off ? s.pause() : s.resume()));
  };
  return { url: `http://127.0.0.1:${server.address().port}`, cut: switched(true), mend: switched(false) };
}

// Scene is the agent of a scenario with its watchers.
class Scene {
  pages = [];
  constructor(who, url, browser, watchers) {
    Object.assign(this, { who, url, browser, watchers });
  }

  async open(more = "", { browser = this.browser, url = this.url, who = this.who } = {}) {
    const page = await browser.open(`${url}/?agent=${encodeURIComponent(who)}${more}`);
    await page.until("Boolean(window.sales) && presence.state == 'open'");
    this.pages.push(page);
    return page;
  }

  facts = async () => (await fetch(`${this.url}/facts?agent=${encodeURIComponent(this.who)}`)).json();

  // Returns the statuses of the agent that each watcher has seen, without repetitions.
  async timelines() {
    const all = await Promise.all(this.watchers.map((w) => w.run(`seen.filter(([id]) => id == ${JSON.stringify(this.who)})`)));
    const from = Math.min(...all.flat().map(([, , at]) => at)); // both watchers began at nearly the same time
    return all.map((seen) => seen.filter(([, status], i) => status != seen[i - 1]?.[1]).map(([, status, at]) => ({ status, at: ((at - from) / 1000).toFixed(1) })));
  }

  // Waits until both watchers see a status.
  async shows(status, patience = 60_000) {
    const last = `seen.findLast(([id]) => id == ${JSON.stringify(this.who)})?.[1] == ${JSON.stringify(status)}`;
    await Promise.all(this.watchers.map((w) => w.until(last, patience)));
  }

  // Waits until every grace has ended and every change has arrived.
  settles = () => pause(QUICK.closed + QUICK.slack);
}

const QUICK = { closed: 5000, lost: 6000, slack: 1200 }; // in ms, as in main.go with -quick: the grace, the lease with its grace, a reserve

const scenarios = [];
const scenario = (title, expected, play, how = {}) => scenarios.push({ title, expected, play, ...how });

const here = ["offline", "available"]; // a watcher sees an agent from its grant on

// --- the scenarios

scenario("two tabs: one connection, one person", { seen: [...here, "busy", "available"] }, async (s) => {
  const a = await s.open();
  const b = await s.open();
  await s.shows("available");
  assert.equal((await s.facts()).live, 1);
  assert.equal((await b.run("presence.claim('busy', { reason: 'call' })")).status, "busy");
  await s.shows("busy");
  for (const page of [a, b]) await page.until("presence.self.status == 'busy'");
  const refused = await b.run("presence.claim('lunch').catch((e) => [e.name, e.code, e.allowed])");
  assert.deepEqual(refused, ["PresenceError", "unknown", ["available", "away", "busy"]]);
  await a.run("presence.release()");
  await s.shows("available");
  await a.until("document.hidden");
  assert.equal((await s.facts()).visible, true, "one of the tabs is");
  await b.close();
  await a.until("!document.hidden && presence.state == 'open'");
  await s.settles();
});

scenario("the last tab is closed", { seen: [...here, "offline"], causes: ["closed"] }, async (s) => {
  const a = await s.open();
  await s.shows("available");
  await a.close();
  await s.shows("offline");
});

scenario("logged out in one of two tabs", { seen: [...here, "offline"], causes: ["logout"] }, async (s) => {
  const a = await s.open();
  const b = await s.open();
  await s.shows("available");
  await b.run("presence.logout()");
  await s.shows("offline");
  await a.until("presence.state == 'logout'");
});

scenario("no watcher sees a reload", { seen: here }, async (s) => {
  const a = await s.open();
  await s.shows("available");
  for (let i = 0; i < 3; i++) {
    await a.send("Page.reload");
    await a.until("events.length < 3 && Boolean(window.sales) && presence.state == 'open'");
  }
  await s.settles();
  assert.equal((await s.facts()).live, 1);
});

scenario("the leader's tab is closed: the other one takes over", { seen: here }, async (s) => {
  const a = await s.open();
  const b = await s.open();
  await s.shows("available");
  await a.close();
  await b.until("states.filter((state) => state == 'open').length == 2");
  await s.settles();
  assert.equal((await s.facts()).live, 1);
});

scenario("the leader's tab hangs: the other one takes over", { seen: here }, async (s) => {
  const a = await s.open();
  const b = await s.open();
  await s.shows("available");
  await a.send("Runtime.evaluate", { expression: "setTimeout(() => alert('Wait for me'))" });
  await b.front();
  await b.until("states.filter((state) => state == 'open').length >= 2");
  await pause(QUICK.lost + QUICK.slack);
  await a.send("Page.handleJavaScriptDialog", { accept: true });
  await a.until("presence.state == 'open'");
  await pause(QUICK.slack);
  assert.equal((await s.facts()).live, 1);
  assert.deepEqual(await b.run("states"), ["connecting", "open", "connecting", "open"], "no other page disturbs it");
});

scenario("elsewhere and back at once", { seen: here }, async (s) => {
  const a = await s.open();
  await s.shows("available");
  await a.go(`${s.url}/elsewhere`);
  await a.run("void history.back()");
  await a.until("events.includes('pageshow true') && presence.state == 'open'");
  await s.settles();
});

scenario("elsewhere and back from the cache after a while", { seen: [...here, "offline", "available", "busy"], causes: ["closed", "manual"] }, async (s) => {
  const a = await s.open();
  await s.shows("available");
  await a.go(`${s.url}/elsewhere`);
  await s.shows("offline");
  await a.run("void history.back()");
  await s.shows("available");
  assert.deepEqual(await a.run("events.filter((e) => e.startsWith('page'))"), ["pageshow false", "pagehide true", "pageshow true"]);
  await a.run("presence.claim('busy')"); // the page works again
  await s.shows("busy");
});

scenario("frozen by the browser and resumed", { seen: [...here, "offline", "available"], causes: ["closed"] }, async (s) => {
  const a = await s.open();
  await s.shows("available");
  await s.browser.open("about:blank").then((page) => s.pages.push(page)); // the browser freezes only hidden pages
  await a.until("document.hidden");
  await a.send("Page.setWebLifecycleState", { state: "frozen" });
  await s.shows("offline");
  await a.send("Page.setWebLifecycleState", { state: "active" });
  await s.shows("available");
  assert.deepEqual(await a.run("events.filter((e) => e == 'freeze' || e == 'resume')"), ["freeze", "resume"]);
});

scenario("the leader is frozen by the browser: the other one takes over", { seen: here }, async (s) => {
  const a = await s.open();
  const b = await s.open();
  await s.shows("available");
  await a.send("Page.setWebLifecycleState", { state: "frozen" });
  await b.until("states.filter((state) => state == 'open').length == 2");
  await s.settles();
  await a.send("Page.setWebLifecycleState", { state: "active" });
  await a.until("presence.state == 'open'");
  assert.equal((await s.facts()).live, 1);
});

scenario("stopped without a message, and resumed", { seen: [...here, "offline", "available"], causes: ["lost"] }, async (s) => {
  const a = await s.open();
  await s.shows("available");
  s.browser.signal("SIGSTOP");
  await s.shows("offline");
  s.browser.signal("SIGCONT");
  await s.shows("available");
  assert.ok((await a.run("events")).length == 1, "the page got no event");
}, { own: true });

scenario("offline and online", { seen: [...here, "offline", "available"], causes: ["lost"] }, async (s) => {
  const line = await cable(s.url);
  const a = await s.open("", { url: line.url });
  await s.shows("available");
  const conditions = (offline) => a.send("Network.emulateNetworkConditions", { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  line.cut();
  await conditions(true);
  await s.shows("offline");
  await a.until("!navigator.onLine && presence.state != 'open'");
  line.mend();
  await conditions(false);
  await s.shows("available");
});

scenario("a network that fails for a moment", { seen: here }, async (s) => {
  const line = await cable(s.url);
  const a = await s.open("", { url: line.url });
  await s.shows("available");
  line.cut();
  await a.until("presence.state != 'open'");
  line.mend();
  await a.until("presence.state == 'open'");
  await s.settles();
});

scenario("the computer sleeps, and wakes an hour later", { seen: [...here, "offline", "away", "available"], causes: ["lost", "idle"] }, async (s) => {
  const a = await s.open();
  await a.touch();
  await s.shows("available");
  // The wall clock runs on while everything else stands still. This clock jumps
  // after the page was stopped for more than 4 s.
  await a.run(`void (() => {
    const { now } = Date;
    let last = now(), more = 0;
    Date.now = () => {
      const t = now();
      if (t - last > 4000) more += 3600_000;
      return (last = t) + more;
    };
  })()`);
  s.browser.signal("SIGSTOP");
  await s.shows("offline");
  s.browser.signal("SIGCONT");
  await s.shows("away"); // at once: waking is no input
  await a.touch();
  await s.shows("available");
}, { own: true });

scenario("two tabs that share no connection", { seen: here }, async (s) => {
  const a = await s.open("&alone");
  await s.open("&alone");
  await s.shows("available");
  assert.equal((await s.facts()).live, 2);
  await a.close();
  await s.settles();
  assert.equal((await s.facts()).live, 1);
});

scenario("without WebSockets", { seen: [...here, "busy", "available", "offline"], causes: ["manual", "closed"] }, async (s) => {
  const a = await s.open("&nosockets");
  await s.shows("available");
  await a.run("presence.claim('busy')");
  await s.shows("busy");
  await a.until(`sales.members.get(${JSON.stringify(s.who)}).status == 'busy'`);
  await a.run("presence.release()");
  await s.shows("available");
  await a.send("Page.reload");
  await a.until("events.length < 3 && Boolean(window.sales) && presence.state == 'open'");
  await pause(QUICK.lost + QUICK.slack); // its heartbeats continue
  await a.close();
  await s.shows("offline");
});

scenario("the elements show views, and only as text", { seen: [...here, "busy", "offline"], causes: ["manual", "closed"] }, async (s) => {
  const evil = `<img src=x onerror="hacked=1">`;
  const a = await s.open("", { who: s.who });
  const other = await s.open("", { who: evil });
  await s.shows("available");
  await other.run(`void document.body.insertAdjacentHTML("beforeend", '<presence-dot id=dot channel=sales name=Ann user=${s.who}></presence-dot><presence-dot id=words label channel=sales user=${s.who}></presence-dot><presence-widget id=widget channel=sales busy="At the telephone"><p slot=available>Ask us</p><p slot=offline>Write to us</p></presence-widget>')`);
  await other.until("dot.dataset.status == 'available'");
  const mark = () => other.run("(() => { const e = dot.shadowRoot.querySelector('.dot'), c = getComputedStyle(e), after = getComputedStyle(e, '::after'); return { label: e.ariaLabel ?? e.getAttribute('aria-label'), role: e.getAttribute('role'), colour: c.borderColor, shape: [c.borderRadius, c.rotate, c.backgroundImage != 'none', c.backgroundColor == 'rgba(0, 0, 0, 0)', c.borderStyle, after.content].join() }; })()");
  const shapes = [await mark()];
  assert.deepEqual([shapes[0].role, shapes[0].label], ["img", "Ann: Available"]);
  assert.equal(await other.run("words.shadowRoot.textContent"), "Available");
  await a.run("presence.claim('busy')");
  await s.shows("busy");
  await other.until("dot.dataset.status == 'busy'");
  shapes.push(await mark());
  assert.equal(shapes[1].label, "Ann: Busy");
  assert.equal(shapes[1].colour, "rgb(208, 68, 55)", "the policy's colour");
  await other.run("void dot.style.setProperty('--presence-busy', 'rgb(1, 2, 3)')");
  assert.equal((await mark()).colour, "rgb(1, 2, 3)", "the page's colour");

  // In the widget.
  const widget = () => other.run("(() => { const r = widget.shadowRoot; return { rung: widget.dataset.rung, banner: r.querySelector('[role=status]').textContent, names: [...r.querySelectorAll('[part=name]')].map((e) => e.textContent), greeting: r.querySelector('slot').assignedElements().map((e) => e.textContent).join(), images: r.querySelectorAll('img').length }; })()");
  let shown = await widget();
  assert.ok(shown.names.includes(evil), shown.names.join());
  assert.deepEqual([shown.rung, shown.banner, shown.greeting, shown.images], ["available", "We are online", "Ask us", 0]);
  await a.close();
  await s.shows("offline");
  await other.until("dot.dataset.status == 'offline'");
  shapes.push(await mark());
  assert.equal(new Set(shapes.map((m) => m.shape)).size, 3, "three shapes, whatever their colour");
  assert.equal(await other.run("window.hacked"), undefined);

  // A server cannot inject HTML, styles or scripts into the page.
  const eve = { id: "eve", status: "s", class: "a b<i>", label: "<b>bold</b>", color: "red; background: url(https://example.com/x)" };
  await other.run(`void (() => {
    const channel = { id: "sales", group: { rung: ${JSON.stringify('x" onload="hacked=1')}, count: 1 }, members: new Map([["eve", ${JSON.stringify(eve)}]]) };
    const fake = Object.assign(new EventTarget(), { state: "open", unwatch() {}, watch: async () => channel });
    dot.presence = widget.presence = fake;
    dot.setAttribute("user", "eve");
  })()`);
  await other.until("dot.dataset.status == 's'");
  assert.equal((await mark()).label, "Ann: <b>bold</b>");
  assert.equal(await other.run("dot.shadowRoot.querySelector('.dot').style.cssText + dot.shadowRoot.querySelectorAll('b, i').length"), "0");
  assert.equal(await other.run("document.querySelectorAll('presence-dot').length"), 2);
  assert.equal(await other.run("window.hacked"), undefined);
  // Elements that are removed stop watching.
  await other.run("void document.querySelectorAll('presence-dot, presence-widget').forEach((e) => e.remove())");
});

scenario("hidden for six minutes", { seen: [...here, "away", "available"], causes: ["idle"] }, async (s) => {
  const a = await s.open();
  await a.touch();
  await s.shows("available");
  await s.browser.open("about:blank").then((page) => s.pages.push(page));
  await a.until("document.hidden");
  // The gaps between timers show whether the browser slowed them down.
  await a.run("void (() => { window.gaps = []; let last = performance.now(); setInterval(() => { const t = performance.now(); gaps.push(Math.round(t - last)); last = t; }, 1000); })()");
  const began = Date.now();
  await s.shows("away", 7 * 60_000); // after five minutes without input
  await pause(6 * 60_000 + 45_000 - (Date.now() - began));
  const slowest = Math.max(...(await a.run("gaps")));
  s.notes = [`the page's timers were up to ${slowest} ms apart; its states: ${await a.run("states.join()")}`];
  assert.ok(slowest > 30_000, "the browser slowed the page's timers down");
  assert.deepEqual(await a.run("states"), ["connecting", "open"], "one socket held all the time");
  assert.equal((await s.facts()).live, 1);
  await a.front();
  await a.touch();
  await s.shows("available");
}, { slow: true, own: true });

// --- the run

let failed = 0;
async function play({ title, expected, play, own }, number, stage, browser) {
  const who = `ann${number}`;
  if (own) browser = await Browser.launch();
  const s = new Scene(who, stage.url, browser, stage.watchers);
  const began = Date.now();
  const report = [];
  try {
    await play(s);
    for (const page of s.pages) assert.deepEqual(page.errors, [], "errors in a page");
    for (const [i, line] of (await s.timelines()).entries()) assert.deepEqual(line.map((e) => e.status), expected.seen, `what the ${stage.names[i]} saw`);
    const causes = (await s.facts()).history.slice(here.length).map((e) => e.cause).filter((c) => c != "default");
    assert.deepEqual(causes, expected.causes ?? causes, "why, by the server");
    report.push(`ok    ${title}`);
  } catch (error) {
    failed++;
    report.push(`FAIL  ${title}`, String(error.message));
    for (const page of s.pages) report.push(`a page: ${JSON.stringify(await Promise.race([page.run("[states, events]").catch((e) => e.message), pause(1000)]))} ${page.errors}`);
    report.push(`the server: ${JSON.stringify(await s.facts().catch(String))}`);
  }
  report[0] += `  (${((Date.now() - began) / 1000).toFixed(1)} s)`;
  const lines = await s.timelines().catch(() => []);
  report.splice(1, 0, ...lines.map((line, i) => `${stage.names[i].padEnd(8)} ${line.map((e) => `${e.at}s ${e.status}`).join("  ")}`), ...(s.notes ?? []));
  console.log(report.join("\n").replaceAll("\n", "\n      "));
  for (const page of s.pages) await page.close().catch(() => {}); // some are closed already
  if (own) await browser.close();
}

async function stage(...flags) {
  const url = await serve(...flags);
  const onlookers = await Browser.launch();
  undo.push(() => onlookers.close());
  const names = ["agent", "visitor"];
  const watchers = [await onlookers.open(`${url}/?agent=bob`), await onlookers.open(`${url}/?visitor=kim`)];
  for (const w of watchers) await w.until("Boolean(window.sales)");
  return { url, watchers, names };
}

try {
  const chosen = scenarios.filter((s) => (slow || !s.slow) && (!names.length || names.some((name) => s.title.includes(name))));
  const fast = chosen.some((s) => !s.slow) && (await stage("-quick"));
  const real = chosen.some((s) => s.slow) && (await stage());
  const left = [...chosen.entries()];
  // Scenarios mostly wait, so several run at a time.
  const lane = async () => {
    const browser = await Browser.launch();
    undo.push(() => browser.close());
    for (let next = left.shift(); next; next = left.shift()) await play(next[1], next[0] + 1, next[1].slow ? real : fast, browser);
  };
  await Promise.all([lane(), lane(), lane()]);
} finally {
  for (const f of undo.reverse()) await f();
}
console.log(failed ? `${failed} failed` : "all passed");
process.exit(failed ? 1 : 0);
