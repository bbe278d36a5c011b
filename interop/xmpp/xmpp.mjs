// The npm package @xmpp/client, unmodified, with Prosody in between. Usage:
// node xmpp.mjs FOLDER. The folder has the program gateway and must be writable.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import net from "node:net";
import { client, xml } from "@xmpp/client";

const [work] = process.argv.slice(2);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const domain = "agents.localhost";

async function until(what, holds, patience = 15000) {
  for (const end = Date.now() + patience; ; await sleep(20)) {
    const value = await holds();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
  }
}

const freePort = () =>
  new Promise((resolve) => {
    const probe = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
const [c2s, components] = [await freePort(), await freePort()];

// Prosody with the smallest configuration.
for (const folder of ["data", "certs"]) mkdirSync(`${work}/${folder}`);
writeFileSync(
  `${work}/prosody.cfg.lua`,
  `
run_as_root = true
data_path = "${work}/data"
pidfile = "${work}/prosody.pid"
log = { info = "${work}/prosody.log" }
interfaces = { "127.0.0.1" }
c2s_ports = { ${c2s} }
component_ports = { ${components} }
s2s_ports = {}
http_ports = {}
https_ports = {}
authentication = "internal_plain"
c2s_require_encryption = false
modules_enabled = { "roster", "saslauth", "disco" }
modules_disabled = { "s2s", "tls" }
VirtualHost "localhost"
Component "${domain}"
  component_secret = "interop"
`,
);
const config = ["--config", `${work}/prosody.cfg.lua`];
for (const user of ["bob", "boss", "guest", "mallory"]) {
  execFileSync("prosodyctl", [...config, "register", user, "localhost", "pass"], { stdio: "ignore" });
}
const children = new Set();
function start(command, args, options) {
  const child = spawn(command, args, options);
  children.add(child);
  child.on("exit", () => children.delete(child));
  return child;
}
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));
const startProsody = () => start("prosody", [...config, "-F"], { stdio: "ignore" });
const ended = (child) => new Promise((resolve) => child.on("exit", resolve));

const listening = () =>
  new Promise((resolve) => {
    const probe = net.connect(c2s, "127.0.0.1", () => resolve(probe.destroy()));
    probe.on("error", () => resolve(false));
  });

let prosody = startProsody();
await until("Prosody listens", async () => (await listening()) !== false);
const gateway = start(`${work}/gateway`, ["-component", `127.0.0.1:${components}`], { stdio: ["ignore", "pipe", "inherit"] });
const url = await new Promise((resolve) => gateway.stdout.once("data", (data) => resolve(String(data).trim())));

async function server(what, args = {}) {
  const answer = await fetch(`${url}/do?${new URLSearchParams({ what, ...args })}`, { method: "POST" });
  if (!answer.ok) throw new Error(`${what}: ${await answer.text()}`);
}

// A user who notes the presence of each contact: "unavailable" or "show|text".
function login(name, resource) {
  const c = { name, seen: {}, history: [], subscriptions: {} };
  c.xmpp = client({ service: `xmpp://127.0.0.1:${c2s}`, domain: "localhost", resource, username: name, password: "pass" });
  c.xmpp.on("error", (error) => (c.error = error)); // the client reconnects by itself
  c.xmpp.on("online", async () => {
    // Prosody sends answers to subscriptions only to clients that requested the roster.
    await c.xmpp.send(xml("iq", { type: "get", id: "roster" }, xml("query", "jabber:iq:roster")));
    await c.xmpp.send(xml("presence"));
  });
  c.xmpp.on("stanza", (stanza) => {
    if (!stanza.is("presence") || !stanza.attrs.from.includes(domain)) return;
    const from = stanza.attrs.from.split("/")[0];
    const { type } = stanza.attrs;
    if (type === "subscribed" || type === "unsubscribed") c.subscriptions[from] = type;
    else if (type === "unavailable" || !type) {
      c.seen[from] = type ?? `${stanza.getChildText("show") ?? ""}|${stanza.getChildText("status") ?? ""}`;
      c.history.push(`${from} ${c.seen[from]}`);
    }
  });
  c.subscribe = (jid) => c.xmpp.send(xml("presence", { type: "subscribe", to: jid }));
  c.started = c.xmpp.start();
  return c;
}

const jids = ["ann", "dan", "eve\\20lee", "fay"].map((node) => `${node}@${domain}`);
const [ann] = jids;
const sees = (c, jid, shown) => until(`${c.name} sees ${jid} as ${shown}, not ${c.seen[jid]}`, () => c.seen[jid] === shown);

// Waits until the contacts of a user equal the core's projection.
async function settled(c) {
  let core;
  try {
    await until("settled", async () => {
      core = await (await fetch(`${url}/shown?user=${c.name}`)).json();
      return jids.every((jid) => core[jid] === c.seen[jid]);
    });
  } catch {
    assert.deepEqual(c.seen, core, `the contacts of ${c.name} differ from the core's`);
  }
}

const list = [];
const check = (name, run) => list.push([name, run]);
let bob, boss, guest, mallory;

check("users log in and subscribe", async () => {
  [bob, boss, guest, mallory] = ["bob", "boss", "guest", "mallory"].map((name) => login(name, "one"));
  await Promise.all([bob, boss, guest, mallory].map((c) => c.started));
  for (const c of [bob, boss, guest]) for (const jid of jids) await c.subscribe(jid);
  for (const c of [bob, boss, guest]) {
    for (const jid of jids) {
      await until("subscribed", () => c.subscriptions[jid] === "subscribed");
      await sees(c, jid, "unavailable");
    }
  }
});

check("a refused subscription, and one to an unknown user", async () => {
  await mallory.subscribe(ann);
  await bob.subscribe(`nobody@${domain}`);
  await until("refused", () => mallory.subscriptions[ann] === "unsubscribed" && bob.subscriptions[`nobody@${domain}`] === "unsubscribed");
});

check("available, free for chat for supervisors only", async () => {
  await server("connect", { id: "ann" });
  await sees(bob, ann, "|Available");
  await sees(boss, ann, "chat|Available");
  await sees(guest, ann, "|Available");
  assert.equal(mallory.seen[ann], undefined);
});

check("do not disturb, with a text that only some users get", async () => {
  await server("claim", { id: "ann", status: "dnd", text: `in <a> meeting & "busy"` });
  await sees(bob, ann, `dnd|in <a> meeting & "busy"`);
  await sees(guest, ann, "dnd|Do not disturb");
  await server("claim", { id: "ann", status: "away" });
  await sees(bob, ann, "away|Away");
});

// RFC 6121, 3.3.3: by an unsubscribe, or by a removal from the roster.
check("a removed contact is unavailable", async () => {
  const remove = xml("query", "jabber:iq:roster", xml("item", { jid: ann, subscription: "remove" }));
  const ends = [xml("presence", { type: "unsubscribe", to: ann }), xml("iq", { type: "set", id: "remove" }, remove)];
  for (const end of ends) {
    await sees(bob, ann, "away|Away");
    await bob.xmpp.send(end);
    await sees(bob, ann, "unavailable");
    bob.history.length = 0;
    await server("claim", { id: "ann", status: "away", text: "not for bob" });
    await sees(boss, ann, "away|not for bob");
    await sleep(200);
    assert.deepEqual(bob.history, []);
    await server("claim", { id: "ann", status: "away" });
    await bob.subscribe(ann);
  }
  await sees(bob, ann, "away|Away");
});

check("an invisible agent looks unavailable to visitors", async () => {
  await server("claim", { id: "ann", status: "invisible" });
  await sees(guest, ann, "unavailable");
  await sees(bob, ann, "|Invisible");
  guest.history.length = 0;
  await server("claim", { id: "ann", status: "invisible", text: "psst" });
  await sees(bob, ann, "|psst");
  await sleep(200);
  assert.deepEqual(guest.history, []);
});

check("a user that logs in later gets the state", async () => {
  const later = login("bob", "two");
  await later.started;
  await sees(later, ann, "|psst");
  await later.xmpp.stop();
  await bob.xmpp.stop();
  bob = login("bob", "three");
  await bob.started;
  await sees(bob, ann, "|psst");
});

check("gone", async () => {
  await server("logout", { id: "ann" });
  for (const c of [bob, boss, guest]) await sees(c, ann, "unavailable");
});

check("the server restarts, and the gateway reconnects", async () => {
  await server("connect", { id: "ann" });
  await server("claim", { id: "ann", status: "available" });
  await sees(bob, ann, "|Available");
  const stopped = ended(prosody);
  prosody.kill("SIGTERM");
  await stopped;
  for (const c of [bob, boss, guest]) c.seen = {};
  await server("claim", { id: "ann", status: "busy" });
  prosody = startProsody();
  for (const c of [bob, boss, guest]) await until(`${c.name} sees ann`, () => c.seen[ann] === "dnd|Busy", 60000);
  for (const c of [bob, boss, guest]) await settled(c);
});

for (const seed of [1, 2, 3]) {
  check(`random script ${seed}: what users see is the core's projection`, async () => {
    await server("script", { seed });
    for (const c of [bob, boss, guest]) await settled(c);
  });
}

check("the gateway ends, and all contacts are unavailable", async () => {
  const stopped = ended(gateway);
  gateway.kill("SIGTERM");
  await stopped;
  for (const c of [bob, boss, guest]) for (const jid of jids) await sees(c, jid, "unavailable");
});

const began = Date.now();
for (const [name, run] of list) {
  try {
    await run();
    console.log(`ok    @xmpp/client: ${name}`);
  } catch (error) {
    console.log(`FAIL  @xmpp/client: ${name}`);
    console.error(error);
    console.error(readFileSync(`${work}/prosody.log`, "utf8"));
    process.exit(1);
  }
}
console.log(`${list.length} checks of @xmpp/client in ${((Date.now() - began) / 1000).toFixed(1)} s`);
process.exit(0);
