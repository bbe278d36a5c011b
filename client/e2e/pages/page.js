import { createPresence } from "/client/presence.js";
import { usePresence } from "/client/elements.js";

// ?agent=ann or ?visitor=kim names the user. With &alone the page shares no
// connection. With &nosockets no WebSocket opens.
const query = new URLSearchParams(location.search);
const who = query.has("agent") ? `agent=${query.get("agent")}` : `visitor=${query.get("visitor")}`;
document.querySelector("h1").textContent = who;
if (query.has("nosockets")) window.WebSocket = class { constructor() { throw new Error("they do not get through"); } };

window.presence = createPresence("/presence/ws", { name: who, token: who, sse: "/presence", shared: !query.has("alone") });
window.states = [];
window.seen = []; // of all members: [who, status, when], as this page sees them
window.events = []; // the lifecycle events of the page
presence.addEventListener("state", (e) => states.push(e.detail));
presence.addEventListener("change", (e) => {
  for (const { id, view } of e.detail.changes) seen.push([id, view?.status ?? "gone", Date.now()]);
});
for (const type of ["pagehide", "pageshow"]) addEventListener(type, (e) => events.push(`${type} ${e.persisted}`));
for (const type of ["freeze", "resume", "visibilitychange"]) document.addEventListener(type, () => events.push(type == "visibilitychange" ? document.visibilityState : type));
usePresence(presence);
presence.open();
window.sales = await presence.watch("sales");
