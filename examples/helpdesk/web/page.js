// The common parts of all pages.

import { clock } from "./demo.js";
import { createPresence } from "/client/presence.js";

// who is "agent=ann" or "visitor=kim". Each page stands for a device with its own
// troubles, so that no page shares its connection.
export function join(who) {
  const presence = createPresence(`/ws?${who}`, { name: who, device: "web", shared: false, activity: false });
  presence.addEventListener("message", ({ detail: m }) => m.now && clock.set(m.now));
  return presence;
}

export const listed = (channel) => [...channel.members.values()].sort((a, b) => a.id.localeCompare(b.id));

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
