import { follow } from "./feed.js";
import { $, after, ask, make, since } from "./desk.js";

const names = { "not-receiving": "Active (doesn’t receive threads)", active: "Active", free: "Active (free)", finishing: "Active (finishing)", unknown: "Not known yet" };
const says = (text) => ($("error").textContent = text ?? "");
let state, team, work;
let filter = "all";
let open; // the agent whose card is open

const label = (v) => v.work ?? v.status;
const name = (id) => names[id] ?? state.statuses.find((s) => s.id === id)?.label ?? id;
const colour = (v) => v.color ?? "var(--unknown)";

function renderAgents() {
  const counts = new Map(state.labels.map((l) => [l, 0]));
  for (const v of team.members) counts.set(label(v), (counts.get(label(v)) ?? 0) + 1);
  $("filter").replaceChildren(
    make("option", { value: "all", selected: filter === "all" }, `All (${team.members.length})`),
    ...[...counts].map(([l, n]) => make("option", { value: l, selected: filter === l }, `${name(l)} (${n})`)),
  );
  $("agents").replaceChildren(
    ...team.members
      .filter((v) => filter === "all" || label(v) === filter)
      .map((v) =>
        make("li", { "data-testid": `agent-${v.id}`, "data-label": label(v), "data-status": v.status },
          make("button", { class: "agent", "aria-pressed": String(open === v.id), onclick: () => show(v.id) },
            make("span", { class: "dot", style: `--c:${colour(v)}` }),
            make("b", {}, v.id),
            v.request && make("span", { class: "bell", "data-testid": `bell-${v.id}`, title: `asks for ${name(v.request)}` }, "🔔"),
            make("span", { class: "soft" }, name(label(v)) + (v.pending ? ` → ${name(v.pending)}` : "")),
            make("span", { class: "grow" }),
            v.threads !== undefined && make("span", { "data-testid": `threads-${v.id}`, title: "threads" }, `${v.threads} ${v.threads === 1 ? "thread" : "threads"}`),
            v.pinned !== undefined && make("span", { "data-testid": `pinned-${v.id}`, title: "pinned messages" }, `📌 ${v.pinned}`),
            v.since && v.class !== "available" && make("span", { class: "soft", "data-testid": `since-${v.id}` }, since(team.now, v.class === "offline" ? (v.lastSeen ?? v.since) : v.since)),
          ),
        ),
      ),
  );
}

function show(agent) {
  if (open !== agent) choice = undefined;
  open = agent;
  render();
}

let choice; // the selection on the card that is not applied yet
function renderCard() {
  const v = team.members.find((m) => m.id === open);
  $("card").hidden = !v;
  if (!v) return;
  $("card-name").textContent = v.id;
  $("card-status").textContent = name(label(v)) + (v.reason ? ` (${v.reason})` : "") + (v.cause ? `, ${v.cause}` : "") + (v.pending ? `, then ${name(v.pending)}` : "");
  const select = $("change").status;
  select.replaceChildren(...state.changeable.map((id) => make("option", { value: id, selected: id === (choice ?? v.status) }, name(id))));
  $("change").querySelector("button").disabled = select.disabled = v.class === "offline";
  $("card-request").hidden = !v.request;
  $("card-asked").textContent = v.request ? `asks for ${name(v.request)}` : "";
  $("challenge").disabled = v.class !== "available";
  $("card-work").replaceChildren(...work.filter((c) => c.agent === open).map((c) => make("li", {}, `${c.client || c.id} in ${c.channel}, for ${since(team.now, c.since)}`)));
}

function renderQueue() {
  const waiting = work.filter((c) => c.place === "queued");
  $("waiting-count").textContent = waiting.length;
  $("waiting").replaceChildren(
    ...waiting.map((c) => {
      const to = make("select", { "aria-label": `Assign ${c.id}`, "data-testid": `assign-${c.id}`, onchange: () => ask({ do: "assign", id: c.id, agent: to.value }, says) },
        make("option", { value: "" }, "assign…"), ...state.agents.map((a) => make("option", { value: a }, a)));
      return make("li", { class: "row", "data-testid": `waiting-${c.id}` }, make("b", {}, c.client || c.id), `${c.channel}, for ${since(team.now, c.since)}`, to);
    }),
  );
}

function renderReasons() {
  $("reasons").replaceChildren(
    ...state.statuses.filter((s) => s.class === "away").map((s) =>
      make("span", { class: "row", "data-testid": `reason-${s.id}` }, make("span", { class: "dot", style: `--c:${s.color ?? "#e0a100"}` }), s.label ?? s.id,
        make("button", { "aria-label": `Remove ${s.id}`, onclick: () => ask({ do: "undefine", status: s.id }, says) }, "✕"))),
  );
}

function renderHours() {
  const form = $("hours");
  if (!form.channel.options.length) form.channel.replaceChildren(...state.channels.map((c) => make("option", { value: c }, c)));
  const h = state.hours[form.channel.value];
  $("hours-state").textContent = h.text
    ? `${form.channel.value}: ${h.text} (${h.zone || "UTC"}), now ${h.open ? "open" : "closed"}${h.next ? ` until ${h.next.slice(0, 16).replace("T", " ")} UTC` : ""}`
    : `${form.channel.value} is always open.`;
}

function render() {
  renderAgents();
  renderCard();
  renderQueue();
  renderReasons();
  renderHours();
  $("clock").textContent = team.now.slice(0, 19).replace("T", " ") + " UTC";
}

const SVG = "http://www.w3.org/2000/svg";
function shape(tag, props, text) {
  const e = document.createElementNS(SVG, tag);
  for (const [k, v] of Object.entries(props)) e.setAttribute(k, v);
  if (text) e.textContent = text;
  return e;
}

// Draws a bar of statuses over time for each agent, from the status log.
function renderChart(log, workload, hours) {
  const to = Date.parse(team.now), from = to - hours * 3600e3, width = 960, left = 60, high = 26;
  const x = (at) => left + ((width - left) * (Math.max(at, from) - from)) / (to - from);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${state.agents.length * high + 22}`, role: "img", "aria-label": "What everybody did" });
  state.agents.forEach((agent, i) => {
    const y = i * high;
    svg.append(shape("text", { x: 0, y: y + 17, class: "name" }, agent));
    const rows = log.filter((r) => r.subject.id === agent);
    const first = rows.length ? rows[0].from : team.members.find((v) => v.id === agent)?.status;
    const steps = [{ at: from, to: first }, ...rows.map((r) => ({ at: Date.parse(r.at), to: r.to }))];
    steps.forEach((s, n) => {
      const end = steps[n + 1]?.at ?? to;
      const def = state.statuses.find((d) => d.id === s.to);
      if (!def || end <= from) return;
      const bar = shape("rect", { x: x(s.at), y: y + 4, width: Math.max(1, x(end) - x(s.at)), height: high - 8, fill: def.color ?? "#b3bac5", "data-agent": agent, "data-status": s.to });
      bar.append(shape("title", {}, `${agent}: ${def.label ?? s.to}, ${new Date(s.at).toISOString().slice(11, 19)} to ${new Date(end).toISOString().slice(11, 19)}`));
      svg.append(bar);
    });
  });
  for (let n = 0; n <= 8; n++) {
    const at = from + ((to - from) * n) / 8;
    svg.append(shape("text", { x: Math.min(x(at), width - 38), y: state.agents.length * high + 16 }, new Date(at).toISOString().slice(11, 16)));
  }
  $("chart").replaceChildren(svg);
  const sums = new Map();
  for (const s of workload) {
    const key = `${s.subject.id}\n${s.status}\n${s.reason ?? ""}`;
    sums.set(key, { ...s, seconds: (sums.get(key)?.seconds ?? 0) + s.seconds, times: (sums.get(key)?.times ?? 0) + s.times });
  }
  const cells = (tag, ...list) => make("tr", {}, ...list.map((c) => make(tag, {}, c)));
  $("sums").replaceChildren(
    cells("th", "agent", "status", "reason", "time", "times"),
    ...[...sums.values()].map((s) => cells("td", s.subject.id, name(s.status), s.reason ?? "", duration(s.seconds), String(s.times))),
  );
  $("log").replaceChildren(
    cells("th", "agent", "from", "to", "reason", "cause", "at"),
    ...log.slice(-50).reverse().map((r) => cells("td", r.subject.id, r.from ? name(r.from) : "", name(r.to), r.reason ?? "", r.trigger ?? "", r.at.slice(11, 19))),
  );
}
const duration = (s) => [Math.floor(s / 3600), Math.floor((s % 3600) / 60), Math.floor(s % 60)].map((n) => String(n).padStart(2, "0")).join(":");

async function reports() {
  const hours = $("hours-shown").value;
  for (const kind of ["log", "workload"]) $(`csv-${kind}`).href = `/api/report/${kind}?hours=${hours}&format=csv`;
  const [log, workload] = await Promise.all(["log", "workload"].map(async (k) => (await fetch(`/api/report/${k}?hours=${hours}`)).json()));
  renderChart(log, workload, Number(hours));
}

async function refresh() {
  [state, team, work] = await Promise.all(["/api/state", "/api/team", "/api/work"].map(async (url) => (await fetch(url)).json()));
  render();
}

$("filter").addEventListener("change", () => {
  filter = $("filter").value;
  render();
});
$("change").status.addEventListener("change", () => (choice = $("change").status.value));
$("change").addEventListener("submit", async (e) => {
  e.preventDefault();
  if (await ask({ do: "change", agent: open, status: $("change").status.value }, says)) choice = undefined;
});
$("accept").addEventListener("click", () => ask({ do: "accept", agent: open }, says));
$("reject").addEventListener("click", () => ask({ do: "reject", agent: open }, says));
$("challenge").addEventListener("click", () => ask({ do: "challenge", agent: open }, says));
$("card-close").addEventListener("click", () => show(undefined));
$("more").addEventListener("click", () => ask({ do: "start", channel: state.channels[0], from: `customer ${Math.floor(Math.random() * 1000)}` }, says));
$("define").addEventListener("submit", async (e) => {
  e.preventDefault();
  const form = e.target;
  if (await ask({ do: "define", status: form.elements.id.value, text: form.elements.label.value || form.elements.id.value }, says)) form.reset();
});
$("hours").channel.addEventListener("change", renderHours);
$("hours").addEventListener("submit", async (e) => {
  e.preventDefault();
  const f = e.target;
  const answer = await fetch("/api/hours", { method: "POST", body: JSON.stringify({ channel: f.channel.value, text: f.elements.text.value, status: f.zone.value }) });
  says(answer.ok ? "" : (await answer.text()).trim());
});
$("hours-shown").addEventListener("change", reports);

const soon = after(60, refresh);
const later = after(400, reports);
follow(() => {
  soon();
  later();
});
await refresh();
await reports();
setInterval(soon, 5000); // ages move on by themselves
