import { clock, listenForInput, recover, suffer, suffering } from "./demo.js";
import { follow } from "./feed.js";
import { dot, element, getState, join, listed, post } from "./page.js";

const agent = new URLSearchParams(location.search).get("agent") ?? "ann";
const $ = (id) => document.getElementById(id);
const presence = join(`agent=${encodeURIComponent(agent)}`);
const channels = new Map(); // the channels of this agent
const loggedIn = `logged in: ${agent}`; // key in the tab's storage, which outlives a reload

document.title = `Console of ${agent}`;
$("name").textContent = agent;
$("profile-name").textContent = agent;

function render() {
  const view = presence.self ?? { status: "…", label: "…" };
  const until = view.until ? `, until ${view.until.slice(11, 19)}` : "";
  const masked = view.masked && view.masked !== view.status ? ` (chosen: ${view.masked})` : "";
  $("status").textContent = `${view.label ?? view.status}${until}${masked}${view.cause ? ` · ${view.cause}` : ""}`;
  $("status").dataset.status = view.status;
  $("avatar").replaceChildren(agent.slice(0, 1).toUpperCase(), dot(view));
  $("profile-dot").replaceChildren(dot(view));
  $("profile-status").textContent = view.label ?? view.status;
  const chosen = view.masked || view.status;
  $("choices").replaceChildren(
    ...presence.statuses.map((s) =>
      element("button", { "data-testid": `set-${s.id}`, "aria-pressed": String(s.id === chosen), onclick: () => choose(s.id) }, dot({ color: s.color, class: s.class, label: s.label }), " ", s.label),
    ),
  );
  const team = new Map();
  for (const channel of channels.values()) for (const v of listed(channel)) team.set(v.id, v);
  $("team").replaceChildren(
    ...[...team.values()].map((v) =>
      element("li", { "data-testid": `team-${v.id}`, "data-status": v.status, "data-class": v.class }, dot(v), v.id, element("span", { class: "what" }, v.label + (v.reason ? ` (${v.reason})` : ""))),
    ),
  );
}

// Waits for a call and shows its error.
async function attempt(promise) {
  $("error").textContent = "";
  try {
    await promise;
  } catch ({ message, allowed }) {
    $("error").textContent = `${message}${allowed ? ` (allowed: ${allowed.join(", ")})` : ""}`;
  }
}

function choose(status) {
  attempt(presence.claim(status, { for: Number($("for").value) || undefined }));
}

function showLink() {
  const state = suffering() ?? presence.state;
  $("link").dataset.state = state;
  $("link").textContent = { open: "connected", network: "network lost", sleep: "asleep", freeze: "frozen" }[state] ?? state;
  const troubled = Boolean(suffering());
  document.querySelector("[data-do=recover]").disabled = !troubled;
  for (const b of document.querySelectorAll("[data-do=network],[data-do=sleep],[data-do=freeze]")) b.disabled = troubled;
}

function open() {
  const login = !sessionStorage.getItem(loggedIn); // a new tab is a login here; a reload is not
  sessionStorage.setItem(loggedIn, true);
  $("desk").hidden = false;
  $("gone").hidden = true;
  presence.open({ login });
}

presence.addEventListener("self", () => {
  render();
  if ($("why").open) explain();
});
presence.addEventListener("change", render);
presence.addEventListener("removed", ({ detail }) => {
  channels.delete(detail.channel.id);
  render();
});
presence.addEventListener("error", ({ detail }) => attempt(Promise.reject(detail)));
presence.addEventListener("state", ({ detail }) => {
  showLink();
  render();
  if (detail !== "logout" && detail !== "closed") return;
  if (detail === "logout") sessionStorage.removeItem(loggedIn);
  $("desk").hidden = true;
  $("gone").hidden = false;
  $("gone-text").textContent = detail === "logout" ? `${agent} has logged out.` : `The tab of ${agent} is closed.`;
  $("back").textContent = detail === "logout" ? "Log in" : "Open again";
});

$("back").addEventListener("click", open);
$("release").addEventListener("click", () => attempt(presence.release()));
$("logout").addEventListener("click", () => presence.logout());
for (const b of document.querySelectorAll("[data-do]")) {
  b.addEventListener("click", () => {
    switch (b.dataset.do) {
      case "recover":
        recover();
        break;
      case "close":
        return presence.close();
      case "reload":
        return location.reload();
      default:
        suffer(b.dataset.do);
    }
    showLink();
  });
}

$("note").addEventListener("submit", (e) => {
  e.preventDefault();
  attempt(post("/api/notes", { from: agent, text: e.target.text.value }).then(() => e.target.reset()));
});

async function explain() {
  const answer = await fetch(`/api/explain?agent=${encodeURIComponent(agent)}`);
  if (answer.ok) $("reasons").replaceChildren(...(await answer.json()).map((line) => element("li", {}, line)));
}
$("why").addEventListener("toggle", () => $("why").open && explain());

async function refresh() {
  const state = await getState();
  clock.set(state.now, state.speed);
  const last = state.notes?.at(-1);
  $("notes").textContent = last ? `${last.from}: ${last.text}` : "";
}
follow((m) => {
  if (m.type === "policy") presence.refresh(); // the choice of statuses has changed
  if (m.type !== "status") refresh();
});

listenForInput(presence);
for (const id of ["sales", "support"]) {
  presence.watch(id).then(
    (channel) => (channels.set(id, channel), render()),
    () => {}, // a channel without this agent
  );
}
await refresh();
open();
render();
