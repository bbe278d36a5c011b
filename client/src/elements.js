// The elements <presence-dot user="ann" channel="sales"> and <presence-widget
// channel="sales"> show a member and a whole channel. See README.md for
// attributes, parts and custom properties. Values of the server are set as text only.

const css = `
:host { display: inline-flex; align-items: center; gap: .4em; }
:host([hidden]) { display: none; }
:host([data-stale]) { opacity: var(--presence-stale, .55); transition: opacity .3s 2s; }
.dot {
  --c: var(--presence-unknown, var(--given, #8a8f98));
  box-sizing: border-box; flex: none; display: inline-block; position: relative;
  width: var(--presence-size, .75em); height: var(--presence-size, .75em);
  border: max(2px, .14em) solid var(--c); border-radius: 50%; forced-color-adjust: none;
}
.dot[data-class=""] { border-style: dotted; }
.dot[data-class=available] { --c: var(--presence-available, var(--given, #2e9e5b)); background: var(--c); }
.dot[data-class=away] { --c: var(--presence-away, var(--given, #b67f00)); background: linear-gradient(90deg, var(--c) 50%, transparent 50%); }
.dot[data-class=busy] { --c: var(--presence-busy, var(--given, #d04437)); background: var(--c); }
.dot[data-class=busy]::after { content: ""; position: absolute; inset: 40% 12%; background: var(--presence-mark, #fff); }
.dot[data-class=dnd] { --c: var(--presence-dnd, var(--given, #7a4fb5)); background: var(--c); border-radius: 12%; rotate: 45deg; scale: .82; }
.dot[data-class=offline] { --c: var(--presence-offline, var(--given, #8a8f98)); }
:host(presence-widget) { display: block; }
ul { list-style: none; margin: 0; padding: 0; }
li { display: flex; align-items: center; gap: .5em; }
`;

const rungs = { available: "We are online", away: "We are away", offline: "We are offline" };

let shared; // for elements that have no presence of their own
const waiting = new Set(); // elements without a presence so far

/** Sets the presence of the elements that have none of their own. */
export function usePresence(presence) {
  shared = presence;
  for (const element of [...waiting]) element.follow();
}

function make(tag, part, ...children) {
  const element = document.createElement(tag);
  element.setAttribute("part", part);
  element.append(...children);
  return element;
}

let sheet;
function rootOf(host, ...children) {
  if (!sheet) (sheet = new CSSStyleSheet()).replaceSync(css);
  const root = host.attachShadow({ mode: "open" });
  root.adoptedStyleSheets = [sheet];
  root.append(...children);
}

const labelOf = (view, unknown) => view?.label || view?.status || unknown;

// Shows a view as a mark, whose shape means the same as its colour.
function paint(dot, view) {
  dot.className = "dot";
  dot.dataset.class = view?.class ?? "";
  dot.setAttribute("part", `dot ${/^\w+$/.test(dot.dataset.class) ? dot.dataset.class : "unknown"}`);
  if (view?.color && CSS.supports("color", view.color)) dot.style.setProperty("--given", view.color);
  else dot.style.removeProperty("--given");
}

// An element that follows a channel while it is in a document.
class Follower extends (globalThis.HTMLElement ?? class {}) {
  #own;
  #ended; // ends the present watch
  channelNow = null; // the Channel, once it is ready

  get presence() {
    return this.#own ?? shared;
  }

  set presence(presence) {
    this.#own = presence;
    if (this.isConnected) this.follow();
  }

  connectedCallback() {
    this.follow();
  }

  disconnectedCallback() {
    this.#ended?.abort();
    waiting.delete(this);
  }

  attributeChangedCallback(name, was, is) {
    if (!this.isConnected || was == is) return;
    if (name == "channel") this.follow();
    else this.render();
  }

  /** Ends the watch of the channel and starts another. */
  async follow() {
    this.#ended?.abort();
    this.channelNow = null;
    const { presence } = this;
    const id = this.getAttribute("channel");
    waiting.delete(this);
    if (!presence) waiting.add(this);
    this.render();
    if (!presence || !id) return;
    const { signal } = (this.#ended = new AbortController());
    const mine = (e) => e.detail.channel.id == id;
    let lost;
    const drop = (error) => {
      lost = true;
      this.channelNow = null;
      this.dataset.error = error.code;
      this.render();
    };
    presence.addEventListener("change", (e) => mine(e) && this.channelNow && this.render(), { signal });
    presence.addEventListener("removed", (e) => mine(e) && drop(e.detail.error), { signal });
    presence.addEventListener("state", () => this.render(), { signal });
    signal.addEventListener("abort", () => lost || presence.unwatch(id));
    delete this.dataset.error;
    try {
      const channel = await presence.watch(id);
      if (signal.aborted) return;
      this.channelNow = channel;
      this.render();
    } catch (error) {
      if (!signal.aborted) drop(error);
    }
  }

  render() {
    this.toggleAttribute("data-stale", this.presence?.state != "open");
    this.show();
  }
}

export class PresenceDot extends Follower {
  static observedAttributes = ["user", "channel", "name", "unknown", "label"];
  #dot = globalThis.document && make("span", "dot");
  #label = globalThis.document && make("span", "label");

  constructor() {
    super();
    rootOf(this, this.#dot, this.#label);
  }

  show() {
    const user = this.getAttribute("user") ?? "";
    const view = this.channelNow?.members.get(user);
    const label = labelOf(view, this.getAttribute("unknown") ?? "unknown");
    paint(this.#dot, view);
    this.dataset.status = view?.status ?? "";
    this.dataset.class = view?.class ?? "";
    const text = this.hasAttribute("label");
    this.#label.textContent = text ? label : "";
    this.#label.hidden = !text;
    // If the label is visible, a screen reader need not read the mark too.
    this.#dot.setAttribute("role", text ? "none" : "img");
    if (text) this.#dot.removeAttribute("aria-label");
    else this.#dot.setAttribute("aria-label", `${this.getAttribute("name") ?? user}: ${label}`);
    this.title = this.hasAttribute("notitle") ? "" : label;
  }
}

export class PresenceWidget extends Follower {
  static observedAttributes = ["channel", "unknown", "nomembers", ...Object.keys(rungs)];
  #banner = globalThis.document && make("div", "banner");
  #slot = globalThis.document && make("slot", "greeting");
  #list = globalThis.document && make("ul", "members");

  /** Returns the name to show for a member's view. */
  nameOf = (view) => view.id;

  constructor() {
    super();
    this.#banner.setAttribute("role", "status");
    rootOf(this, this.#banner, this.#slot, this.#list);
  }

  show() {
    const { rung } = this.channelNow?.group ?? { rung: "offline" };
    this.dataset.rung = rung;
    const headline = this.getAttribute(rung) ?? rungs[rung] ?? rung;
    if (this.#banner.textContent != headline) this.#banner.textContent = headline; // a screen reader reads every change aloud
    this.#banner.setAttribute("part", `banner ${rung in rungs ? rung : "unknown"}`);
    this.#slot.name = rung;
    const views = this.hasAttribute("nomembers") ? [] : [...(this.channelNow?.members.values() ?? [])];
    this.#list.hidden = !views.length;
    this.#list.replaceChildren(
      ...views
        .map((view) => [String(this.nameOf(view)), view])
        .sort(([a], [b]) => a.localeCompare(b))
        .map(([name, view]) => {
          const dot = make("span", "dot");
          paint(dot, view);
          dot.setAttribute("role", "none");
          const row = make("li", "member", dot, make("span", "name", name), make("span", "label", labelOf(view, this.getAttribute("unknown") ?? "unknown")));
          Object.assign(row.dataset, { user: view.id, status: view.status, class: view.class ?? "" });
          return row;
        }),
    );
  }
}

if (globalThis.customElements && !customElements.get("presence-dot")) {
  customElements.define("presence-dot", PresenceDot);
  customElements.define("presence-widget", PresenceWidget);
}
