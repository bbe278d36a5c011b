// The parts for demonstrations only: the server's clock, which may be sped up, and
// troubles. Import this module before any module opens a socket.

// The server's own clock, by which ages are sent to it.
export const clock = {
  at: 0,
  real: 0,
  speed: 1,
  set(iso, speed = this.speed) {
    Object.assign(this, { at: Date.parse(iso), real: performance.now(), speed });
  },
  get now() {
    return this.at + (performance.now() - this.real) * this.speed;
  },
};

let touched = 0; // the last input

// "network", "sleep" or "freeze" during a trouble. A cut network passes on nothing
// in either direction, and no side gets an error. A sleeping computer and a frozen
// page look the same to the server.
let trouble = null;
const sockets = new Set();
const left = new Set(); // sockets closed during a trouble, whose close was not sent

window.WebSocket = class extends WebSocket {
  constructor(...where) {
    super(...where);
    sockets.add(this);
    for (const type of ["open", "message", "close"]) this.addEventListener(type, (e) => trouble && e.stopImmediatePropagation());
    this.addEventListener("close", () => sockets.delete(this));
  }

  send(text) {
    if (trouble) return;
    const m = JSON.parse(text);
    if (m.idle != null) m.idle = Math.max(0, Math.round(clock.now - touched));
    super.send(JSON.stringify(m));
  }

  close(...why) {
    if (trouble) left.add(this);
    else super.close(...why);
  }
};

export const suffering = () => trouble;

export function suffer(what) {
  trouble = what;
}

export function recover() {
  const stale = trouble !== "freeze" || [...sockets].every((s) => s.readyState !== WebSocket.OPEN);
  trouble = null;
  for (const s of left) s.close();
  left.clear();
  if (stale) window.dispatchEvent(new Event("online")); // as after every outage
}

// Reports the input of a person in the page, except on the buttons for troubles.
export function listenForInput(presence) {
  for (const type of ["pointerdown", "keydown", "wheel", "touchstart"]) {
    document.addEventListener(
      type,
      (e) => {
        if (trouble === "sleep" || e.target.closest?.("[data-trouble]")) return;
        touched = clock.now;
        presence.input();
      },
      { passive: true },
    );
  }
}
