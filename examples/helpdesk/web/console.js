import { Link, Roster, dot, element, getState, post } from "./client.js";
import { follow } from "./feed.js";

const agent = new URLSearchParams(location.search).get("agent") ?? "ann";
const $ = (id) => document.getElementById(id);
const link = new Link(`agent=${encodeURIComponent(agent)}`, { key: `presence:${agent}` });
const rosters = { sales: new Roster(), support: new Roster() };
let statuses = [];
let self = null;

document.title = `Console of ${agent}`;
$("name").textContent = agent;
$("profile-name").textContent = agent;

function render() {
  const view = self ?? { status: "…", label: "…" };
  const until = view.until ? `, until ${view.until.slice(11, 19)}` : "";
  const masked = view.masked && view.masked !== view.status ? ` (chosen: ${view.masked})` : "";
  $("status").textContent = `${view.label ?? view.status}${until}${masked}${view.cause ? ` · ${view.cause}` : ""}`;
  $("status").dataset.status = view.status;
  $("avatar").replaceChildren(agent.slice(0, 1).toUpperCase(), dot(view));
  $("profile-dot").replaceChildren(dot(view));
  $("profile-status").textContent = view.label ?? view.status;
  const chosen = view.masked || view.status;
  $("choices").replaceChildren(
    ...statuses.map((s) =>
      element("button", { "data-testid": `set-${s.id}`, "aria-pressed": String(s.id === chosen), onclick: () => choose(s.id) }, dot({ color: s.color, class: s.class, label: s.label }), " ", s.label),
    ),
  );
  const team = new Map();
  for (const r of Object.values(rosters)) for (const v of r.list()) team.set(v.id, v);
  $("team").replaceChildren(
    ...[...team.values()].map((v) =>
      element("li", { "data-testid": `team-${v.id}`, "data-status": v.status, "data-class": v.class }, dot(v), v.id, element("span", { class: "what" }, v.label + (v.reason ? ` (${v.reason})` : ""))),
    ),
  );
}

function choose(status) {
  $("error").textContent = "";
  link.send({ type: "claim", ref: status, status, for: Number($("for").value) || undefined });
}

link.addEventListener("welcome", ({ detail }) => {
  statuses = detail.statuses;
  self = detail.self;
  render();
});
link.addEventListener("self", ({ detail }) => {
  self = detail.view;
  render();
  if ($("why").open) explain();
});
for (const type of ["snapshot", "diff"]) {
  link.addEventListener(type, ({ detail }) => {
    if (!rosters[detail.channel.id].apply(detail)) {
      link.send({ type: "unwatch", channel: detail.channel.id }); // something was missed: begin anew
      link.send({ type: "watch", channel: detail.channel.id });
    }
    render();
  });
}
link.addEventListener("error", ({ detail }) => {
  if (detail.ref?.startsWith("watch ")) return; // a channel that is not this agent's
  if (detail.code !== "stale") $("error").textContent = `${detail.message}${detail.allowed ? ` (allowed: ${detail.allowed.join(", ")})` : ""}`;
});
link.addEventListener("state", ({ detail }) => {
  $("link").dataset.state = detail;
  $("link").textContent = { open: "connected", network: "network lost", sleep: "asleep", freeze: "frozen" }[detail] ?? detail;
  const troubled = Boolean(link.trouble);
  document.querySelector("[data-do=recover]").disabled = !troubled;
  for (const b of document.querySelectorAll("[data-do=network],[data-do=sleep],[data-do=freeze]")) b.disabled = troubled;
  if (detail === "logout" || detail === "gone") {
    $("desk").hidden = true;
    $("gone").hidden = false;
    $("gone-text").textContent = detail === "logout" ? `${agent} has logged out.` : `The tab of ${agent} is closed.`;
    $("back").textContent = detail === "logout" ? "Log in" : "Open again";
  }
});

$("back").addEventListener("click", () => {
  const login = link.id() === null;
  $("desk").hidden = false;
  $("gone").hidden = true;
  link.connect({ login });
});
$("release").addEventListener("click", () => link.send({ type: "release", ref: "release" }));
$("logout").addEventListener("click", () => link.bye("logout"));
for (const b of document.querySelectorAll("[data-do]")) {
  b.addEventListener("click", () => {
    switch (b.dataset.do) {
      case "recover":
        return link.recover();
      case "close":
        link.bye("closed");
        return link.tell("state", "gone");
      case "reload":
        return location.reload();
      default:
        return link.suffer(b.dataset.do);
    }
  });
}

$("note").addEventListener("submit", async (e) => {
  e.preventDefault();
  $("error").textContent = "";
  try {
    await post("/api/notes", { from: agent, text: e.target.text.value });
    e.target.reset();
  } catch (error) {
    $("error").textContent = error.message;
  }
});

async function explain() {
  const answer = await fetch(`/api/explain?agent=${encodeURIComponent(agent)}`);
  if (answer.ok) $("reasons").replaceChildren(...(await answer.json()).map((line) => element("li", {}, line)));
}
$("why").addEventListener("toggle", () => $("why").open && explain());

async function refresh() {
  const state = await getState();
  link.setClock(state.now, state.speed);
  const last = state.notes?.at(-1);
  $("notes").textContent = last ? `${last.from}: ${last.text}` : "";
}
follow((m) => {
  if (m.type === "policy") link.hello(); // there are other statuses to choose from
  if (m.type !== "status") refresh();
});

link.listenForInput();
for (const channel of Object.keys(rosters)) link.watch(channel);
await refresh();
link.connect({ login: link.id() === null }); // a new tab is a login here; a reload is not
render();
