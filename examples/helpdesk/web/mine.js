// The work of one agent, beside the console: conversations, the challenge "still
// there?" and requests.
import { follow } from "./feed.js";
import { $, after, ask, make } from "./desk.js";

const agent = new URLSearchParams(location.search).get("agent");
const says = (text) => ($("error").textContent = text ?? "");

async function refresh() {
  const [work, team, state] = await Promise.all(["/api/work", "/api/team", "/api/state"].map(async (url) => (await fetch(url)).json()));
  const me = team.members.find((v) => v.id === agent);
  const mine = work.filter((c) => c.agent === agent);
  const breaks = state.statuses.filter((s) => s.class !== "available" && s.selectableBy.includes("self"));
  const select = make("select", { "aria-label": "Ask the supervisor for", "data-testid": "request", onchange: () => ask({ do: "request", agent, status: select.value }, says) },
    make("option", { value: "" }, "ask the supervisor for…"), ...breaks.map((s) => make("option", { value: s.id }, s.label)));
  $("mine-label").textContent = me?.pending ? `finishing, then ${me.pending}` : (me?.work ?? "");
  $("mine-list").replaceChildren(
    ...mine.map((c) =>
      make("li", {}, make("b", {}, c.client || c.id), make("span", { class: "soft small" }, c.channel),
        make("button", { class: "what", "data-testid": `finish-${c.id}`, onclick: () => ask({ do: "finish", id: c.id }, says) }, "Finish")),
    ),
  );
  if ($("asked").contains(document.activeElement)) return; // the person is making a choice
  $("asked").replaceChildren(
    ...(me?.request
      ? [`You have asked for ${me.request}. `, make("button", { "data-testid": "withdraw", onclick: () => ask({ do: "withdraw", agent }, says) }, "Take back")]
      : [select]),
  );
}

$("still-here").addEventListener("click", () => {
  $("ask").hidden = true;
  ask({ do: "ack", agent }, says);
});
const soon = after(50, refresh);
follow((m) => {
  if (m.type === "challenge" && m.value.agent === agent) $("ask").hidden = false;
  if (m.type === "decided" && m.value.agent === agent) says(`Your request for ${m.value.status} was ${m.value.how}.`);
  if (m.type === "status" && m.agent === agent && m.class !== "available") $("ask").hidden = true;
  soon();
});
refresh();
