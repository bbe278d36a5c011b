import { follow, getHistory } from "./feed.js";
import { getState } from "./page.js";

const colours = { available: "#2e9e5b", busy: "#d04437", away: "#c98a00", dnd: "#7a4fb5", offline: "#98a2b3", "": "#d7dbe2" };
const history = new Map(); // agent -> [{at, status, class, cause, trigger, masked}]
let clock = { at: 0, real: performance.now(), speed: 1 };
const now = () => clock.at + (performance.now() - clock.real) * clock.speed;

function take(m) {
  const rows = history.get(m.agent) ?? [];
  const at = Date.parse(m.at);
  const last = rows.at(-1);
  if (last && last.status === m.status && last.cause === m.cause) Object.assign(last, { masked: m.masked, reach: m.reach });
  else rows.push({ ...m, at });
  history.set(m.agent, rows.slice(-500));
  const what = `${m.agent}: ${m.status}${m.masked && m.masked !== m.status ? ` (masks ${m.masked})` : ""} · ${m.cause}`;
  document.querySelector("#last").textContent = what;
}

const escape = (s) => String(s).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

function draw() {
  const minutes = Number(document.querySelector("#span").value);
  const width = 1200, left = 56, right = 8, rowHeight = 34;
  const end = now(), begin = end - minutes * 60000;
  const x = (t) => left + ((Math.max(begin, Math.min(end, t)) - begin) / (end - begin)) * (width - left - right);
  const agents = [...history.keys()].sort();
  const height = agents.length * rowHeight + 26;
  const parts = [];
  const step = { 2: 15000, 15: 120000, 60: 600000 }[minutes];
  for (let t = Math.ceil(begin / step) * step; t < end; t += step) {
    const clockTime = new Date(t).toISOString().slice(11, step < 60000 ? 19 : 16);
    parts.push(`<line x1="${x(t)}" x2="${x(t)}" y1="0" y2="${height - 20}"/><text x="${x(t)}" y="${height - 6}" text-anchor="middle">${clockTime}</text>`);
  }
  agents.forEach((agent, row) => {
    const y = row * rowHeight + 4, rows = history.get(agent);
    parts.push(`<text class="name" x="0" y="${y + 18}">${escape(agent)}</text>`);
    rows.forEach((r, i) => {
      const from = x(r.at), to = x(rows[i + 1]?.at ?? end);
      if (to - from < 0.5) return;
      const label = r.status + (r.masked && r.masked !== r.status ? ` ← ${r.masked}` : "");
      const title = `${r.status}, cause ${r.cause}, trigger ${r.trigger}${r.masked ? `, masks ${r.masked}` : ""}, since ${new Date(r.at).toISOString().slice(11, 19)}`;
      parts.push(`<g data-agent="${escape(agent)}" data-status="${escape(r.status)}" data-cause="${escape(r.cause)}"><title>${escape(title)}</title><rect x="${from}" y="${y}" width="${to - from}" height="${rowHeight - 8}" rx="4" fill="${colours[r.class] ?? colours[""]}"/>`);
      if (to - from > label.length * 6.4 + 8) parts.push(`<text class="in" x="${from + 6}" y="${y + 18}">${escape(label)}</text>`);
      parts.push("</g>");
    });
  });
  document.querySelector("#chart").innerHTML = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Statuses of the last ${minutes} minutes">${parts.join("")}</svg>`;
}

async function refresh() {
  const state = await getState();
  clock = { at: Date.parse(state.now), real: performance.now(), speed: state.speed };
}
async function begin() {
  const past = await getHistory();
  history.clear();
  past.forEach(take);
  refresh();
}
follow((m) => {
  if (m.type === "status") take(m);
  else if (m.type === "begin") begin();
  else refresh();
});
begin();
setInterval(refresh, 5000);
setInterval(draw, 500);
