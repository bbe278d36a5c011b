// A small client of the presence protocol: it keeps one socket open, answers
// the server's pings, resumes under the same connection id, and says goodbye.
// The simulated troubles at the end are for the demonstration.

const JITTER = { base: 500, cap: 15000 }; // of reconnecting, in milliseconds

export class Link extends EventTarget {
  // who: "agent=ann" or "visitor=x"; key: under which the connection id is kept.
  constructor(who, { key = null } = {}) {
    super();
    this.who = who;
    this.key = key;
    this.watched = new Set();
    this.attempts = 0;
    this.wanted = false;
    this.trouble = null; // "network", "sleep" or "freeze" while simulated
    this.clock = { at: 0, real: 0, speed: 1 }; // the server's time, which may be sped up
    this.touched = 0; // the last input, by the server's time
    this.inputTold = 0;
    addEventListener("pagehide", () => this.bye("closed"));
    addEventListener("pageshow", (e) => e.persisted && this.reconnect());
    addEventListener("online", () => this.reconnect());
    document.addEventListener("resume", () => this.reconnect());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.wanted && !this.open) this.reconnect();
    });
  }

  get open() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  get now() {
    const { at, real, speed } = this.clock;
    return at + (performance.now() - real) * speed;
  }

  setClock(iso, speed = this.clock.speed) {
    this.clock = { at: Date.parse(iso), real: performance.now(), speed };
  }

  // The connection's id outlives a reload, so that the server sees one
  // connection go on and not another one begin.
  id() {
    return this.key ? sessionStorage.getItem(this.key) : null;
  }

  connect({ login = false } = {}) {
    this.wanted = true;
    this.login = login;
    clearTimeout(this.timer);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws?${this.who}`);
    this.socket = socket;
    socket.onopen = () => {
      this.hello();
      for (const channel of this.watched) this.send({ type: "watch", ref: `watch ${channel}`, channel });
    };
    socket.onmessage = (e) => this.socket === socket && this.receive(JSON.parse(e.data));
    socket.onclose = (e) => this.socket === socket && this.closed(e);
    this.tell("state", "connecting");
  }

  receive(m) {
    if (this.trouble) return; // nothing comes through
    switch (m.type) {
      case "welcome":
        this.attempts = 0;
        this.login = false;
        if (this.key) sessionStorage.setItem(this.key, m.conn);
        this.setClock(m.now);
        this.touched ||= this.now;
        this.tell("state", "open");
        break;
      case "ping":
        this.setClock(m.now);
        this.send({ type: "pong", seq: m.seq, idle: this.idle(), visible: !document.hidden });
        break;
      case "error":
        if (m.code === "stale") this.hello(); // the server has given this connection up
        break;
    }
    this.tell(m.type, m);
  }

  hello() {
    this.send({ type: "hello", v: 1, conn: this.id() ?? undefined, login: this.login, device: "web", idle: this.idle(), visible: !document.hidden });
  }

  closed(e) {
    this.tell("state", "closed");
    if (!this.wanted) return;
    if (e.code === 4009 && this.key) sessionStorage.removeItem(this.key); // another tab goes on with it
    const wait = Math.random() * Math.min(JITTER.cap, JITTER.base * 2 ** this.attempts++);
    this.timer = setTimeout(() => this.trouble || this.connect(), wait);
  }

  reconnect() {
    if (!this.wanted || this.trouble) return;
    this.attempts = 0;
    if (!this.open) this.connect();
  }

  send(m) {
    if (this.open && !this.trouble) this.socket.send(JSON.stringify(m));
  }

  watch(channel) {
    this.watched.add(channel);
    this.send({ type: "watch", ref: `watch ${channel}`, channel });
  }

  bye(cause) {
    if (!this.wanted) return;
    this.wanted = false;
    clearTimeout(this.timer);
    this.send({ type: "bye", cause });
    if (cause === "logout" && this.key) sessionStorage.removeItem(this.key);
    this.socket?.close(1000);
    this.tell("state", cause);
  }

  // How long ago the last input was, which is what the server goes by.
  idle() {
    return this.touched ? Math.max(0, Math.round(this.now - this.touched)) : 0;
  }

  // A person did something. The server is told at most every few seconds; in
  // between, the age in the next pong says it as well.
  input() {
    if (this.trouble === "sleep") return;
    const was = this.idle();
    this.touched = this.now;
    if (was > 20000 || performance.now() - this.inputTold > 5000) {
      this.inputTold = performance.now();
      this.send({ type: "input" });
    }
  }

  listenForInput(target = document) {
    for (const type of ["pointerdown", "keydown", "wheel", "touchstart"]) {
      target.addEventListener(type, (e) => e.target.closest?.("[data-trouble]") || this.input(), { passive: true });
    }
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  // The network is cut: nothing goes either way and nobody is told. A computer
  // that sleeps and a page that is frozen look the same to the server.
  suffer(trouble) {
    this.trouble = trouble;
    clearTimeout(this.timer);
    this.tell("state", trouble);
  }

  recover() {
    const was = this.trouble;
    this.trouble = null;
    if (!this.wanted) return;
    if (was === "freeze" && this.open) {
      this.tell("state", "open"); // the socket is still there; the next ping is answered
      return;
    }
    this.socket?.close(); // it is stale, as after any outage
    this.socket = null;
    this.attempts = 0;
    this.connect();
  }
}

// A list of members kept up to date by snapshots and diffs.
export class Roster {
  constructor() {
    this.members = new Map();
    this.group = { rung: "offline", count: 0 };
  }

  // apply takes in a frame and reports whether it fits what came before.
  apply(f) {
    if (f.type === "snapshot") {
      this.members = new Map((f.members ?? []).map((v) => [v.id, v]));
    } else {
      if (f.epoch !== this.epoch || f.seq !== this.seq + 1) return false;
      for (const c of f.changes ?? []) {
        if (c.view) this.members.set(c.subject.id, c.view);
        else this.members.delete(c.subject.id);
      }
    }
    this.epoch = f.epoch;
    this.seq = f.seq;
    this.group = f.group;
    return true;
  }

  list() {
    return [...this.members.values()].sort((a, b) => a.id.localeCompare(b.id));
  }
}

export async function post(path, body) {
  const answer = await fetch(path, { method: "POST", body: JSON.stringify(body) });
  if (!answer.ok) throw new Error((await answer.text()).trim());
}

export const getState = async () => (await fetch("/api/state")).json();

export function element(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...children);
  return e;
}

export const dot = (view) => element("span", { class: "dot", style: `--c:${view.color || "var(--unknown)"}`, "data-class": view.class || "unknown", title: view.label || view.status });
