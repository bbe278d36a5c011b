// What only a demonstration needs: the server's clock, which may be sped up, and
// troubles. Import it before anything opens a socket.

// Ages are told to the server by its own clock.
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

// "network", "sleep" or "freeze" while there is one. The network is cut: nothing
// goes either way and nobody is told. A computer that sleeps and a page that is
// frozen look the same to the server.
let trouble = null;
const sockets = new Set();
const left = new Set(); // those closed meanwhile, which nobody was told either

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
  if (stale) window.dispatchEvent(new Event("online")); // as after any outage
}

// Passes on what a person does in the page, except to the buttons for troubles.
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
