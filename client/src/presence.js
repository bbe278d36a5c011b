// Presence in the browser: one connection for all tabs of a device, which
// survives frozen, hidden and reloaded pages. See README.md, and presence.d.ts for the
// types. No dependencies.
//
// Every page has a Presence. Of the pages that share a name one leads: it holds a
// Web Lock and the socket. Pages send a few kinds of messages over a
// BroadcastChannel. The leader handles those of its own page in the same way:
//
//   lead    a new leader asks every page to report; the leader before it follows
//   tab     a page reports the state to merge and the channels it watches
//   ask     a page has a message for the server
//   m       the leader passes on a message of the server, or its own state
//   logout  every page ends
//
// Each page keeps its own lists of members from the frames passed on. The leader
// keeps those of the channels that only others watch as well.

const INPUT = "pointerdown pointermove keydown wheel touchstart touchmove";
const BEAT = 25e3; // the server's heartbeat, until the welcome sets it
const SPARSE = 15e3; // between two reports of continued input
const PATIENCE = 10e3; // for a socket to open, and for an answer
const CAP = 30e3; // the longest wait before another try
const ABANDONED = 150e3; // the longest silence of a leader without a connection, whose timers may be slow

// A mark is an instant by two clocks. One may stand still while the computer
// sleeps. The other jumps when it is set. The longer of both times has passed.
const mark = (ago = 0) => [Date.now() - ago, performance.now() - ago];
const since = ([date, ticks]) => Math.round(Math.max(0, Date.now() - date, performance.now() - ticks));

const base64 = (text) => btoa(text).replace(/[+/=]/g, (c) => ({ "+": "-", "/": "_" })[c] ?? "");

const random = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

export class PresenceError extends Error {
  name = "PresenceError";

  constructor({ code, message, allowed, channel }) {
    super(message);
    Object.assign(this, { code, allowed, channel });
  }
}

class Channel {
  members = new Map();
  group = { rung: "offline", count: 0 };
  users = 0; // calls of watch in this page
  epoch; // of the last frame; undefined while a snapshot is needed
  seq;

  constructor(id) {
    this.id = id;
    this.ready = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
    this.ready.catch(() => {}); // each call of watch also rejects with the error
  }

  // Applies a frame. Returns the changes, or nothing if the frame does not fit.
  apply({ type, epoch, seq, group, members = [], changes = [] }) {
    const was = this.members;
    if (type == "snapshot") {
      this.members = new Map(members.map((view) => [view.id, view]));
      changes = members.filter((view) => JSON.stringify(view) != JSON.stringify(was.get(view.id)));
      changes = changes.map((view) => ({ op: was.has(view.id) ? "updated" : "joined", id: view.id, view }));
      was.forEach((_, id) => this.members.has(id) || changes.push({ op: "left", id }));
    } else if (epoch != this.epoch || seq != this.seq + 1) {
      this.epoch = undefined;
      return;
    } else {
      changes = changes.map(({ op, subject: { id }, view }) => {
        view ? was.set(id, view) : was.delete(id);
        return { op, id, view };
      });
    }
    Object.assign(this, { epoch, seq, group });
    return changes;
  }
}

// Server-sent events and POST requests with the methods of a WebSocket.
function stream(base, token) {
  let source;
  let back; // the address of the POST requests
  let sent = Promise.resolve();
  const end = (code) => it.onclose({ code });
  const it = {
    readyState: 1,
    send(text) {
      const m = JSON.parse(text, (_, value) => value ?? undefined); // a query has no null
      if (!source) {
        source = new EventSource(`${base}/events?${new URLSearchParams(token ? { ...m, token } : m)}`, { withCredentials: true });
        source.onerror = () => end();
        source.onmessage = (e) => {
          const { type, conn, secret = "", code } = JSON.parse(e.data);
          if (type == "welcome") back = `${base}/messages?${new URLSearchParams({ conn, secret })}`;
          type == "close" ? end(code) : it.onmessage(e);
        };
      } else if (m.type == "bye" || m.type == "suspend") {
        navigator.sendBeacon(back, text); // the page may end before a request would be sent
      } else {
        sent = sent.then(() => fetch(back, { method: "POST", body: text, credentials: "include" })).then((answer) => answer.ok || end(), end);
      }
    },
    close: () => source?.close(),
  };
  queueMicrotask(() => it.onopen());
  return it;
}

export function createPresence(url, options = {}) {
  const presence = Object.assign(new EventTarget(), { state: "closed", self: null, statuses: [], open, close, logout, refresh, claim, release, ask, watch, unwatch, focus, input });
  const tell = (type, detail) => presence.dispatchEvent(new CustomEvent(type, { detail }));

  // The state of this page.
  const name = "presence:" + (options.name ?? url);
  const me = random();
  const channels = new Map();
  const pending = new Map(); // calls without an answer, by ref
  let listening; // while open, until close
  let state = "closed"; // as in presence
  let run; // while neither closed nor suspended
  let bus; // to the other pages, if pages share the connection
  let login;
  let touched; // when the last input was
  let told; // when input was last reported at once
  let dirty; // there was input since the last report
  let faced; // the channel that the person looks at here
  let heard; // when the server, or the leading page, was last heard
  let timer; // until the next check, connect or end of an attempt
  let greeting = { heartbeat: BEAT }; // the last welcome
  let conn; // the connection's id
  let leader; // the last page known to lead
  let count = 0;

  // The state of the leader.
  const tabs = new Map(); // the latest report of every page
  const watched = new Map(); // channels watched at the server, with the ref of the watch
  let socket;
  let attempts = 0;
  let streaming; // by server-sent events
  let proven; // whether a welcome has arrived over a WebSocket
  let beat; // the number of the last ping
  let shown; // the visibility that the server knows
  let focused; // the focus that the server knows

  function open(how = {}) {
    login = how.login;
    if (listening) return report();
    listening = new AbortController();
    const on = (target, types, f, capture) => types.split(" ").forEach((type) => target.addEventListener(type, f, { signal: listening.signal, passive: true, capture }));
    const suspend = () => stop("suspended", { type: "suspend" });
    const look = () => {
      if (!document.hidden) start();
      report();
      check();
    };
    if (options.activity != false) on(window, INPUT, input, true);
    on(document, "visibilitychange prerenderingchange", look);
    on(window, "focus blur", look);
    on(window, "pagehide", (e) => (e.persisted ? suspend() : close()));
    on(document, "freeze", suspend);
    on(document, "resume", start);
    on(window, "pageshow", start);
    on(window, "online", () => hurry(true));
    start();
  }

  function close() {
    end("closed");
  }

  function logout() {
    post({ k: "logout" });
  }

  function refresh() {
    report({ hello: true });
  }

  function claim(status, more) {
    return ask({ ...more, type: "claim", status });
  }

  function release(key) {
    return ask({ type: "release", key });
  }

  function watch(id) {
    const channel = channelOf(id);
    if (!channel.users++) report();
    return channel.ready;
  }

  function unwatch(id) {
    const channel = channels.get(id);
    if (!channel?.users || --channel.users) return;
    if (leader != me) channels.delete(id);
    report();
  }

  function focus(channel = "") {
    faced = channel;
    report();
  }

  function input() {
    touched = mark();
    dirty = true;
    if (told && since(told) < SPARSE) return;
    told = touched;
    report({ input: true });
  }

  // --- this page

  function start() {
    if (run || !listening || document.prerendering) return;
    const mine = (run = new AbortController());
    mine.held = new Promise((release) => (mine.release = release));
    take({ type: "state", state: "connecting" });
    if (options.shared == false || !navigator.locks || !window.BroadcastChannel) return lead();
    bus = new BroadcastChannel(name);
    bus.onmessage = (e) => hear(e.data);
    check();
    // The browser releases this lock with the page, so that the leader notices its end.
    lock(name + me, {}, () => {
      report({ hi: true });
      campaign();
    });
  }

  function stop(state, goodbye) {
    if (!run) return;
    say(goodbye);
    run.abort();
    run.release();
    run = undefined;
    follow();
    bus = bus?.close();
    take({ type: "state", state });
  }

  function end(cause) {
    listening = listening?.abort();
    stop(cause, { type: "bye", cause });
  }

  // Requests a lock and keeps it until this page stops, unless granted returns
  // true. Resolves to true if the lock was stolen.
  function lock(name, how, granted) {
    const mine = run;
    return navigator.locks
      .request(name, how.steal ? how : { ...how, signal: mine.signal }, () => mine == run && (granted() || mine.held))
      .catch((e) => {
        if (mine != run) return;
        if (e.name == "AbortError") return true;
        bus = bus?.close(); // this page gets no locks: it opens its own socket
        lead();
      });
  }

  async function campaign(steal) {
    if (!(await lock(name, { steal }, lead))) return;
    follow();
    report({ hi: true });
    if (!steal) campaign(); // after a theft the request before it still waits
  }

  // Sends a message to all pages, this one included.
  function post(m) {
    m.id = me;
    bus?.postMessage(m);
    hear(m);
  }

  function pass(m, to) {
    post({ k: "m", m, to });
  }

  function become(state, to) {
    pass({ type: "state", state }, to);
  }

  function hear(m) {
    const { k, id } = m;
    if (k == "lead") {
      if (id != me) follow(); // this page may have led before
      leader = id;
      report({ hi: true });
    } else if (k == "m") id == (leader ??= id) && (m.to ?? me) == me && take(m.m);
    else if (k == "logout") end(k);
    else if (leader == me) k == "tab" ? reported(m) : say(m.m);
  }

  function report(more = {}) {
    dirty = false;
    const mine = [...channels.values()].filter((c) => c.users);
    post({
      k: "tab",
      visible: !document.hidden,
      idle: touched && since(touched),
      focus: faced && (document.hasFocus() ? faced : ""),
      login,
      watches: mine.map((c) => c.id),
      needs: mine.filter((c) => more.hi || !c.epoch).map((c) => c.id),
      ...more,
    });
  }

  function ask(what) {
    const ref = `${me}.${++count}`;
    const m = { ...what, ref };
    return new Promise((resolve, reject) => {
      const settle = (error, view) => {
        pending.delete(ref);
        error ? reject(error) : resolve(view);
      };
      pending.set(ref, { m, settle });
      setTimeout(() => settle(new PresenceError({ code: "unavailable", message: "presence: no answer in time" })), PATIENCE);
      post({ k: "ask", m });
    });
  }

  // Handles a message that the leader passes on.
  function take(m) {
    heard = mark();
    const { type, channel } = m;
    const asked = pending.get(m.ref);
    let now = m.state;
    if (type == "welcome") {
      greeting = m;
      conn = m.conn || conn;
      login = false;
      presence.statuses = m.statuses;
      now = "open";
    }
    if (type == "welcome" || type == "self") tell("self", (presence.self = m.self ?? m.view ?? null));
    else if (type == "ping") dirty && report();
    else if (type == "snapshot" || type == "diff") frame(m);
    else if (type == "removed") lose(channel.id, new PresenceError({ code: "not-allowed", message: "presence: access has ended" }));
    else if (type == "done") asked?.settle(null, m.view);
    else if (type == "error") {
      const error = new PresenceError(m);
      if (asked) asked.settle(error);
      else if (channel && m.code != "unavailable") lose(channel, error);
      else if (!m.ref) tell(type, error);
    }
    if (now) {
      const was = state;
      presence.state = state = now;
      if (now == "open") {
        pending.forEach(({ m }) => post({ k: "ask", m }));
        check(); // at the heartbeat that the server set
      }
      if (now != was) tell("state", now);
    }
    tell("message", m);
  }

  function frame(m) {
    const channel = channels.get(m.channel.id);
    const known = channel?.epoch;
    const changes = channel?.apply(m);
    if (changes) {
      channel.resolve(channel);
      if (channel.users) tell("change", { channel, changes });
    } else if (known) {
      if (leader == me) abandon(channel.id);
      report();
    }
  }

  function lose(id, error) {
    const channel = channels.get(id);
    if (!channel) return;
    channels.delete(id);
    channel.reject(error);
    if (channel.users) tell("removed", { channel, error });
  }

  function channelOf(id) {
    if (!channels.has(id)) channels.set(id, new Channel(id));
    return channels.get(id);
  }

  function later(ms, f) {
    clearTimeout(timer);
    timer = setTimeout(f, ms);
  }

  // Notices a silence that is too long: the computer slept, the socket is dead, or
  // the browser stopped the leading page. It checks twice, since messages arrive
  // late after this page was stopped itself.
  function check(again) {
    if (!run || (leader == me && state != "open")) return;
    const silent = state != "refused" && since(heard) > (state == "open" ? 2.2 * greeting.heartbeat : ABANDONED);
    if (silent && again) {
      heard = mark();
      if (leader == me) return connect();
      campaign(true);
    }
    later(silent ? 500 : greeting.heartbeat / 2, () => check(silent));
  }

  // --- the leader

  function lead() {
    tabs.clear();
    post({ k: "lead" });
    connect();
  }

  // Leads no longer.
  function follow() {
    leader = undefined;
    drop();
    check();
  }

  async function connect() {
    drop();
    become("connecting");
    later(PATIENCE, () => closed({}));
    try {
      const storage = bus ? localStorage : sessionStorage;
      conn ??= storage.getItem(name) ?? random();
      storage.setItem(name, conn);
    } catch {
      conn ??= random(); // the page has no access to storage
    }
    const attempt = (socket = {});
    try {
      let { token } = options;
      if (token?.call) token = await token();
      if (attempt != socket) return;
      const made = (socket = streaming ? stream(options.sse, token) : new WebSocket(new URL(url, location).href.replace(/^http/, "ws"), token ? ["presence.v1", "token." + base64(token)] : []));
      const present = (f) => (e) => made == socket && f(e);
      made.onopen = present(hello);
      made.onmessage = present((e) => receive(JSON.parse(e.data)));
      made.onclose = present(closed);
    } catch {
      if (attempt == socket) closed({});
    }
  }

  function drop() {
    clearTimeout(timer);
    watched.clear();
    const old = socket;
    socket = beat = undefined;
    old?.close?.();
  }

  function closed({ code }) {
    if (state != "open" && !proven && options.sse) streaming = !streaming;
    drop();
    const over = code == 1002 || code == 1009;
    become(over ? "refused" : "waiting");
    if (code == 4009) conn = random(); // another page uses the old id
    if (!over && code != 1000) later(Math.random() * Math.min(CAP, 1e3 * 2 ** attempts++), connect);
  }

  // Connects at once, because the network or the page has just returned.
  function hurry(fresh) {
    if (leader != me || state == "refused") return;
    if (fresh) attempts = 0;
    if (fresh || state == "waiting") connect();
  }

  function send(m) {
    if (socket?.readyState == 1) socket.send(JSON.stringify(m));
  }

  function say(m) {
    if (leader == me && state == "open") send(m);
  }

  function receive(m) {
    const { type, code } = m;
    if (type == "welcome") {
      proven ||= !streaming;
      tabs.forEach((t) => (t.login = false));
    } else if (type == "error") {
      if (code == "stale") return hello();
      if (code == "rate") return closed(m); // which message the server dropped is unknown
      watched.forEach((ref, id) => ref == m.ref && (m.channel = id));
    }
    const over = type == "removed" ? m.channel.id : type == "error" && m.channel;
    if (over) {
      watched.delete(over);
      if (code == "unavailable") setTimeout(sync, 1e3 + Math.random() * 4e3);
      else tabs.forEach((t) => (t.watches = t.watches.filter((id) => id != over)));
    }
    pass(m);
    if (type == "ping") {
      attempts = 0;
      beat = m.seq;
      pong();
    } else if (type == "welcome") {
      focused = undefined;
      sync();
    }
  }

  function hello() {
    speak({ type: "hello", v: 1, conn, login: [...tabs.values()].some((t) => t.login), device: options.device });
  }

  // Only the first answer to a ping has the age of the last input.
  function pong(again) {
    speak({ type: "pong", seq: beat }, again);
  }

  function speak(m, again) {
    const { visible, idle } = merged();
    shown = visible;
    send({ idle: again ? undefined : idle, visible, ...m });
  }

  function reported(m) {
    const { id } = m;
    const known = tabs.get(id);
    const ready = state == "open";
    tabs.set(id, { ...m, at: m.idle >= 0 && mark(m.idle) });
    if (id != me) {
      if (!known)
        lock(name + id, { mode: "shared" }, () => {
          tabs.delete(id);
          sync();
          return true;
        });
      if (m.hi) ready ? pass({ ...greeting, self: presence.self }, id) : become(state, id);
      for (const need of m.needs) {
        const { epoch, seq, group, members } = channels.get(need) ?? {};
        if (epoch) pass({ type: "snapshot", channel: { id: need }, epoch, seq, group, members: [...members.values()] }, id);
      }
    }
    if (ready && (m.login || m.hello)) hello();
    if (m.input && presence.self) say({ type: "input" });
    if (m.visible && !known?.visible) hurry();
    sync();
  }

  // Merges the reports of the pages.
  function merged() {
    const all = [...tabs.values()];
    const ages = all.flatMap((t) => (t.at ? since(t.at) : []));
    const faces = all.flatMap((t) => t.focus ?? []);
    return {
      visible: all.some((t) => t.visible),
      idle: Math.min(...ages), // Infinity without input, which JSON writes as null
      focus: faces.find(Boolean) ?? faces[0],
      watches: new Set(all.flatMap((t) => t.watches)),
    };
  }

  // Sends the changes of the merged state to the server.
  function sync() {
    if (leader != me || state != "open") return;
    const { visible, focus, watches } = merged();
    if (visible != shown) beat ? pong(true) : hello();
    if (focus != focused && presence.self) send({ type: "focus", channel: (focused = focus) });
    for (const id of watches) {
      if (watched.has(id)) continue;
      const { epoch, seq } = channelOf(id);
      const ref = `${me}.${++count}`;
      watched.set(id, ref);
      send({ type: "watch", ref, channel: id, epoch, seq: epoch && seq });
    }
    for (const id of watched.keys()) {
      if (watches.has(id)) continue;
      abandon(id);
      channels.delete(id);
    }
  }

  function abandon(id) {
    if (watched.delete(id)) send({ type: "unwatch", channel: id });
  }

  return presence;
}
