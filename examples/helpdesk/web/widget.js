import { Link, Roster, dot, element, getState, post } from "./client.js";
import { follow } from "./feed.js";

const channel = new URLSearchParams(location.search).get("channel") ?? "sales";
const $ = (id) => document.getElementById(id);
const visitor = (sessionStorage.getItem("visitor") ?? Math.random().toString(36).slice(2, 10));
sessionStorage.setItem("visitor", visitor);
const link = new Link(`visitor=${visitor}`);
const roster = new Roster();
const headlines = { available: "We are online", away: "We are away", offline: "We are offline" };
let greetings = {};

$("title").textContent = `Talk to ${channel}`;

function render() {
  const { rung } = roster.group;
  $("banner").dataset.rung = rung;
  $("banner").textContent = headlines[rung];
  $("greeting").textContent = greetings[rung] ?? "";
  $("agents").replaceChildren(
    ...roster.list().map((v) => element("li", { "data-testid": `agent-${v.id}`, "data-status": v.status, "data-class": v.class }, dot(v), v.id, element("span", { class: "soft" }, v.label))),
  );
  $("chat").hidden = rung === "offline";
  $("leave").hidden = rung === "available";
}

for (const type of ["snapshot", "diff"]) {
  link.addEventListener(type, ({ detail }) => {
    if (!roster.apply(detail)) {
      link.send({ type: "unwatch", channel });
      link.send({ type: "watch", channel });
    }
    render();
  });
}
$("chat").addEventListener("click", () => {
  const free = roster.list().find((v) => v.class === "available");
  $("answer").textContent = free ? `${free.id} will be with you in a moment.` : "Somebody will be with you as soon as they are back.";
});
$("leave").addEventListener("submit", async (e) => {
  e.preventDefault();
  const form = e.target;
  try {
    await post("/api/messages", { from: form.from.value, text: form.text.value });
    form.reset();
    $("answer").textContent = "Thank you, we have your message.";
  } catch (error) {
    $("answer").textContent = error.message;
  }
});

async function refresh() {
  greetings = (await getState()).greetings;
  render();
}
follow((m) => {
  if (m.type === "greeting" || m.type === "begin") refresh();
});
refresh();

link.watch(channel);
link.connect();
