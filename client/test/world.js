// A simulated world for the client: pages of one browser profile with their own
// globals, a clock that tests move, and a network that can be cut. Its server
// implements the protocol and checks the messages that it gets. The same seed
// gives the same run.

import { readFileSync } from "node:fs";
import vm from "node:vm";
import EventEmitter from "node:events";

const source = readFileSync(new URL("../src/presence.js", import.meta.url), "utf8").replace(/^export /gm, "");
const script = new vm.Script(`(() => {${source}\nreturn { createPresence, PresenceError }; })()`, { filename: "presence.js" });

EventEmitter.defaultMaxListeners = 0;

const turn = () => new Promise((next) => setImmediate(next));

// Returns a small random generator (mulberry32), from 0 up to 1.
export function chance(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class World {
  now = 0; // the value of performance.now, in milliseconds
  date = 1_700_000_000_000; // the value of Date.now
  tasks = []; // {at, n, page, f}
  count = 0;
  pages = [];
  channels = new Set(); // open BroadcastChannels
  storage = new Map();
  held = new Map(); // name of a lock to its holder and its waiting requests
  online = true;
  problems = [];
  theft = 1; // milliseconds until a page gets the theft of its lock
  dials = 0; // WebSockets tried

  constructor({ seed = 1, heartbeat = 25000, lease = 60000 } = {}) {
    this.random = chance(seed);
    this.server = new Server(this, heartbeat, lease);
  }

  // Runs f in a page after ms. A stopped page runs it when it is resumed. A closed
  // page never runs it.
  task(page, ms, f) {
    const task = { at: this.now + ms, n: ++this.count, page, f };
    this.tasks.push(task);
    return task;
  }

  // Moves the clock and runs the tasks that become due.
  async pass(ms) {
    const end = this.now + ms;
    await turn();
    for (;;) {
      const due = this.tasks.filter((t) => t.at <= end && !t.page?.stopped).sort((a, b) => a.at - b.at || a.n - b.n)[0];
      if (!due) break;
      this.tasks.splice(this.tasks.indexOf(due), 1);
      this.tick(Math.max(0, due.at - this.now));
      if (!due.page?.gone) {
        try {
          due.f();
        } catch (error) {
          this.problems.push(error);
        }
      }
      await turn();
    }
    this.tick(end - this.now);
    await turn();
  }

  tick(ms) {
    this.now += ms;
    this.date += ms;
  }

  // The computer sleeps: only the wall clock and the server's clock move.
  sleep(ms) {
    this.date += ms;
    this.server.skew += ms;
  }

  open(options = {}) {
    const page = new Page(this, options);
    this.pages.push(page);
    return page;
  }

  // --- web locks, of all pages

  lock(name) {
    if (!this.held.has(name)) this.held.set(name, { holders: new Set(), queue: [] });
    return this.held.get(name);
  }

  grant(name) {
    const lock = this.lock(name);
    for (let next = lock.queue[0]; next; next = lock.queue[0]) {
      if (next.page.gone) {
        lock.queue.shift();
        continue;
      }
      const free = lock.holders.size == 0 || (next.shared && [...lock.holders].every((h) => h.shared));
      if (!free) return;
      lock.queue.shift();
      lock.holders.add(next);
      this.task(next.page, 1, async () => {
        if (next.stolen) return;
        try {
          next.resolve(await next.f({}));
        } catch (error) {
          next.reject(error);
        }
        lock.holders.delete(next);
        this.grant(name);
      });
    }
  }
}

class Page {
  errors = [];
  told = []; // the events: [type, detail]

  constructor(world, { hidden = false, focused = !hidden, start = true, locks = true, url = "/ws", session = new Map(), storing = true, sse, ...options }) {
    this.world = world;
    this.session = session;
    const page = this;
    const timers = new Map();
    const window = new EventTarget();
    this.document = Object.assign(new EventTarget(), { hidden, prerendering: false, focused, hasFocus: () => this.document.focused });
    this.window = window;
    const globals = {
      window,
      document: this.document,
      location: new URL("https://desk.example/app"),
      navigator: { locks: locks && this.locks(), sendBeacon: (to, text) => world.server.post(to, text) },
      ...(storing && { localStorage: storage(world.storage), sessionStorage: storage(session) }), // without storage, reading the property throws
      WebSocket: class extends Socket {
        constructor(url, protocols) {
          super(page, url, protocols);
        }
      },
      BroadcastChannel: class extends Radio {
        constructor(name) {
          super(page, name);
        }
      },
      EventSource: class extends Source {
        constructor(url) {
          super(page, url);
        }
      },
      // The requests of a closed page end with it.
      fetch: (to, { body }) => new Promise((resolve, reject) => world.task(page, 2, () => (world.online ? resolve({ ok: world.server.post(to, body) }) : reject(new TypeError("the network is down"))))),
      setTimeout: (f, ms = 0) => {
        const task = world.task(page, ms, () => (timers.delete(task.n), f()));
        timers.set(task.n, task);
        return task.n;
      },
      clearTimeout: (n) => {
        if (timers.has(n)) world.tasks.splice(world.tasks.indexOf(timers.get(n)), 1);
        timers.delete(n);
      },
      queueMicrotask,
      performance: { now: () => world.now },
      crypto: { getRandomValues: (a) => a.map(() => world.random() * 2 ** 32) },
      CustomEvent, EventTarget, AbortController, URL, URLSearchParams, btoa,
    };
    window.BroadcastChannel = globals.BroadcastChannel;
    const context = vm.createContext(globals);
    vm.runInContext("(date, random) => { Date.now = date; Math.random = random; }", context)(() => world.date, world.random);
    const { createPresence, PresenceError } = script.runInContext(context);
    this.PresenceError = PresenceError;
    this.presence = createPresence(url, { name: "desk", sse, ...options });
    for (const type of ["state", "self", "change", "removed", "error", "message"]) this.presence.addEventListener(type, (e) => this.hear(type, e.detail));
    if (start) this.presence.open();
  }

  get state() {
    return this.presence.state;
  }

  hear(type, detail) {
    if (type != "message") this.told.push([type, detail]);
    if (type == "error") this.errors.push(detail.message);
  }

  fire(target, type, more = {}) {
    target.dispatchEvent(Object.assign(new Event(type), more));
  }

  press() {
    this.fire(this.window, "keydown");
  }

  hide(hidden = true) {
    this.document.hidden = hidden;
    this.document.focused = !hidden;
    this.fire(this.document, "visibilitychange");
  }

  // The tab is closed or navigates. With kept, the browser may show the page again.
  leave(kept = false) {
    this.fire(this.window, "pagehide", { persisted: kept });
    if (kept) this.freeze();
    else this.crash();
  }

  freeze() {
    this.fire(this.document, "freeze");
    this.stopped = true;
  }

  // The page returns from the cache, or is no longer frozen.
  resume(fromCache = false) {
    this.stopped = false;
    this.fire(this.document, "resume");
    if (fromCache) this.fire(this.window, "pageshow", { persisted: true });
  }

  // The page ends, and the browser closes everything that it had open.
  crash() {
    const { world } = this;
    this.gone = true;
    world.pages.splice(world.pages.indexOf(this), 1);
    for (const c of world.channels) if (c.page == this) world.channels.delete(c);
    for (const s of [...world.server.sockets]) if (s.page == this) world.task(null, 10, () => world.server.ended(s, "closed"));
    for (const [name, lock] of world.held) {
      for (const h of lock.holders) if (h.page == this) lock.holders.delete(h);
      world.grant(name);
    }
  }

  locks() {
    const { world } = this;
    const page = this;
    return {
      request: (name, { steal, mode, signal }, f) =>
        new Promise((resolve, reject) => {
          if (steal && signal) return reject(new DOMException("steal and signal", "NotSupportedError"));
          if (page.noLocks) return reject(new DOMException("not here", "SecurityError"));
          const lock = world.lock(name);
          const entry = { page, shared: mode == "shared", f, resolve, reject };
          signal?.addEventListener("abort", () => {
            if (lock.queue.includes(entry)) {
              lock.queue.splice(lock.queue.indexOf(entry), 1);
              reject(new DOMException("aborted", "AbortError"));
              world.grant(name);
            }
          });
          if (steal) {
            for (const h of lock.holders) {
              h.stolen = true;
              world.task(h.page, world.theft, () => h.reject(new DOMException("stolen", "AbortError")));
            }
            lock.holders.clear();
            lock.queue.unshift(entry);
          } else lock.queue.push(entry);
          world.grant(name);
        }),
    };
  }
}

const storage = (map) => ({ getItem: (k) => map.get(k) ?? null, setItem: (k, v) => map.set(k, String(v)), removeItem: (k) => map.delete(k) });

class Radio {
  constructor(page, name) {
    Object.assign(this, { page, name });
    page.world.channels.add(this);
  }

  postMessage(m) {
    if (!this.page.world.channels.has(this)) throw new DOMException("closed", "InvalidStateError");
    const data = JSON.stringify(m);
    for (const other of this.page.world.channels) {
      if (other == this || other.name != this.name) continue;
      this.page.world.task(other.page, 1, () => this.page.world.channels.has(other) && other.onmessage({ data: JSON.parse(data) }));
    }
  }

  close() {
    this.page.world.channels.delete(this);
  }
}

class Socket {
  readyState = 0;
  dead = false; // bytes were lost, so that none arrive any more

  constructor(page, url, protocols) {
    Object.assign(this, { page, url, protocols });
    const { world } = page;
    world.dials++;
    world.task(page, 20, () => {
      if (this.readyState) return;
      if (!world.online) return; // hangs
      if (world.server.down || world.server.onlyStreams) return this.lose(1006);
      this.readyState = 1;
      world.server.sockets.add(this);
      this.onopen?.({});
    });
  }

  send(text) {
    if (this.readyState != 1) throw new DOMException("not open", "InvalidStateError");
    const { world } = this.page;
    this.dead ||= !world.online;
    if (!this.dead) world.task(null, 5, () => world.server.take(this, JSON.parse(text)));
  }

  // From the server.
  receive(m) {
    const { world } = this.page;
    this.dead ||= !world.online;
    if (!this.dead) world.task(this.page, 5, () => this.readyState == 1 && this.onmessage?.({ data: JSON.stringify(m) }));
  }

  lose(code) {
    const { world } = this.page;
    this.page.world.server.sockets.delete(this);
    world.task(this.page, 5, () => {
      if (this.readyState == 3) return;
      this.readyState = 3;
      this.onclose?.({ code });
    });
  }

  close() {
    if (this.readyState == 1 && this.page.world.online && !this.dead) {
      this.page.world.task(null, 5, () => this.page.world.server.ended(this, "closed"));
    }
    if (this.readyState != 3) this.page.world.task(this.page, 5, () => this.onclose?.({ code: 1005 }));
    this.readyState = 3;
  }
}

// An EventSource. The server sees it as a socket that has sent hello.
class Source {
  readyState = 1;

  constructor(page, url) {
    this.page = page;
    const { world } = page;
    this.url = new URL(url, "https://desk.example/app");
    world.task(page, 20, () => {
      if (this.closed || !world.online) return;
      if (world.server.down) return this.onerror?.({});
      const query = this.url.searchParams;
      world.server.sockets.add(this);
      world.server.streams.set(query.get("conn"), this);
      const m = Object.fromEntries(query);
      for (const [k, v] of query) if (v == "null" || v == "undefined") world.problems.push(new Error(`${k}=${v} in a query`));
      world.server.take(this, { ...m, type: "hello", v: 1, visible: m.visible == "true", login: m.login == "true", idle: m.idle && Number(m.idle) });
    });
  }

  receive(m) {
    this.page.world.task(this.page, 5, () => this.closed || this.onmessage?.({ data: JSON.stringify(m) }));
  }

  lose(code) {
    this.page.world.server.sockets.delete(this);
    this.receive({ type: "close", code });
  }

  close() {
    this.closed = true;
    const { world } = this.page;
    world.task(null, 1000, () => world.server.ended(this, "lost"));
  }
}

// The server: channels whose members change, and connections that leave.
class Server {
  sockets = new Set();
  streams = new Map();
  conns = new Map(); // id to {epoch, socket, leaves, present, visible, idle, at}
  log = []; // the connections as others see them: [now, id, "joined" or "left", cause]
  heard = []; // every message: [conn, message]
  lists = new Map(); // channel to {epoch, seq, members, past}
  forbidden = new Set();
  faults = [];
  skew = 0;

  constructor(world, heartbeat, lease) {
    Object.assign(this, { world, heartbeat, lease });
    const beat = () => {
      for (const s of this.sockets) if (s.conn) s.receive({ type: "ping", v: 1, seq: ++s.pings, now: "" });
      world.task(null, heartbeat, beat);
    };
    world.task(null, heartbeat, beat);
    const sweep = () => {
      this.sweep();
      world.task(null, 500, sweep);
    };
    world.task(null, 500, sweep);
  }

  get now() {
    return this.world.now + this.skew;
  }

  fault(s, what, m) {
    this.faults.push(`${what}: ${JSON.stringify(m)}`);
    s.receive({ type: "error", v: 1, ref: m.ref, code: "invalid", message: what });
  }

  take(s, m) {
    if (!this.sockets.has(s)) return;
    this.heard.push([s.conn, m]);
    const c = this.conns.get(s.conn);
    if (c) c.at = this.now;
    const ok = (view) => m.ref && s.receive({ type: "done", v: 1, ref: m.ref, view });
    if (m.ref?.length > 64) return this.fault(s, "ref is too long", m);
    if (m.type != "hello" && !s.conn) return this.fault(s, "hello comes first", m);
    switch (m.type) {
      case "hello": {
        if (typeof m.conn != "string" || m.v != 1 || typeof m.visible != "boolean") return this.fault(s, "what a hello", m);
        const was = this.conns.get(m.conn) ?? { epoch: 0 };
        if (was.socket && was.socket != s) {
          this.sockets.delete(was.socket);
          was.socket.lose(4009);
        }
        if (!was.present) this.log.push([this.now, m.conn, "joined"]);
        Object.assign(was, { epoch: was.epoch + 1, socket: s, leaves: undefined, present: true, visible: m.visible, idle: m.idle ?? was.idle, at: this.now });
        this.conns.set(m.conn, was);
        s.conn = m.conn;
        s.pings ??= 0;
        s.watches ??= new Set();
        s.receive({ type: "welcome", v: 1, conn: m.conn, epoch: was.epoch, secret: "s", now: "", heartbeat: this.heartbeat, lease: this.lease, self: this.visitors ? null : { id: "ann", status: "available" }, statuses: [] });
        break;
      }
      case "pong":
        if (!m.seq || m.seq > s.pings) return this.fault(s, "no such ping", m);
        if (m.seq == s.ponged && "idle" in m) return this.fault(s, "an age that would be ignored", m);
        s.ponged = m.seq;
        Object.assign(c, { visible: m.visible, idle: m.idle ?? c.idle });
        break;
      case "input":
        if (this.visitors) return this.fault(s, "visitors only watch", m);
        c.idle = 0;
        break;
      case "focus":
        c.focus = m.channel;
        break;
      case "watch": {
        if (s.watches.has(m.channel)) return this.fault(s, "watched already", m);
        if (this.forbidden.has(m.channel)) return s.receive({ type: "error", v: 1, ref: m.ref, code: "not-allowed", message: "presence: not for you" });
        if (this.unavailable) return s.receive({ type: "error", v: 1, ref: m.ref, code: "unavailable", message: "presence: later" });
        s.watches.add(m.channel);
        ok();
        const list = this.list(m.channel);
        const past = m.epoch == list.epoch && list.past.filter((f) => f.seq > m.seq);
        if (past && past.length == list.seq - m.seq) past.forEach((f) => s.receive(f));
        else s.receive(this.snapshot(m.channel));
        break;
      }
      case "unwatch":
        if (!s.watches.delete(m.channel)) return this.fault(s, "not watched", m);
        ok();
        break;
      case "claim":
        if (m.status == "lunch") return s.receive({ type: "error", v: 1, ref: m.ref, code: "unknown", message: "presence: unknown status", allowed: ["available", "busy"] });
        if (m.status == "never") return; // the answer is lost
        c.claims = (c.claims ?? 0) + 1;
        ok({ id: "ann", status: m.status });
        this.conns.forEach(({ socket }) => socket?.receive({ type: "self", v: 1, view: { id: "ann", status: m.status } }));
        break;
      case "request":
        ok({ id: "ann", status: "available", request: m.status });
        break;
      case "release":
        ok({ id: "ann", status: "available" });
        break;
      case "bye":
        this.ended(s, m.cause);
        s.lose(1000);
        break;
      case "suspend":
        this.ended(s, "closed");
        s.lose(4010);
        break;
      default:
        this.fault(s, "no such type", m);
    }
  }

  post(to, text) {
    if (!this.world.online || this.down) return false;
    const query = new URL(to, "https://desk.example/app").searchParams;
    const s = this.streams.get(query.get("conn"));
    if (query.get("secret") != "s" || !this.sockets.has(s)) return false;
    this.world.task(null, 5, () => this.take(s, JSON.parse(text)));
    return true;
  }

  // The server notices that a socket has ended.
  ended(s, cause) {
    this.sockets.delete(s);
    const c = this.conns.get(s.conn);
    if (c?.socket != s) return;
    c.socket = undefined;
    c.leaves = { at: this.now + { closed: 5000, lost: 15000, logout: 0 }[cause], cause };
    this.sweep();
  }

  sweep() {
    for (const [id, c] of this.conns) {
      if (c.socket && this.now - c.at >= this.lease) {
        c.leaves = { at: c.at + this.lease + 15000, cause: "lost" };
        this.sockets.delete(c.socket);
        c.socket.lose(1008);
        c.socket = undefined;
      }
      if (c.present && c.leaves && c.leaves.at <= this.now) {
        c.present = false;
        this.log.push([c.leaves.at, id, "left", c.leaves.cause]);
      }
    }
  }

  // The network is down for so long that the server notices.
  breakAll() {
    for (const s of [...this.sockets]) {
      this.ended(s, "lost");
      s.lose(1006);
    }
  }

  list(channel) {
    if (!this.lists.has(channel)) this.lists.set(channel, { epoch: "e1", seq: 0, members: new Map(), past: [] });
    return this.lists.get(channel);
  }

  snapshot(channel) {
    const { epoch, seq, members } = this.list(channel);
    return { type: "snapshot", v: 1, channel: { id: channel }, epoch, seq, group: group(members), members: [...members.values()] };
  }

  // Changes the view of a member. Without a view it removes the member.
  change(channel, id, view) {
    const list = this.list(channel);
    const op = !view ? "left" : list.members.has(id) ? "updated" : "joined";
    if (op == "left" && !list.members.has(id)) return;
    if (view) list.members.set(id, view);
    else list.members.delete(id);
    const frame = { type: "diff", v: 1, channel: { id: channel }, epoch: list.epoch, seq: ++list.seq, group: group(list.members), changes: [{ op, subject: { id }, view }] };
    list.past = [...list.past, frame].slice(-8);
    for (const s of this.sockets) if (s.watches?.has(channel)) s.receive(frame);
  }

  // Sends snapshots, because the client fell behind or the stream starts again.
  renew(channel, lagged) {
    const list = this.list(channel);
    if (!lagged) Object.assign(list, { epoch: `${list.epoch}'`, seq: 0, past: [] });
    for (const s of this.sockets) if (s.watches?.has(channel)) s.receive({ ...this.snapshot(channel), lagged: true });
  }

  remove(channel) {
    for (const s of this.sockets) if (s.watches?.delete(channel)) s.receive({ type: "removed", v: 1, channel: { id: channel } });
  }
}

const group = (members) => ({ rung: members.size ? "available" : "offline", count: members.size });
