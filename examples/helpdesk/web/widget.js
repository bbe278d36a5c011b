import { ask } from "./desk.js";
import { follow } from "./feed.js";
import { dot, element, getState, join, listed, post } from "./page.js";

const channel = new URLSearchParams(location.search).get("channel") ?? "sales";
const $ = (id) => document.getElementById(id);
const visitor = (sessionStorage.getItem("visitor") ?? Math.random().toString(36).slice(2, 10));
sessionStorage.setItem("visitor", visitor);
const presence = join(`visitor=${visitor}`);
const offline = { members: new Map(), group: { rung: "offline" } };
let watched = offline;
const headlines = { available: "We are online", away: "We are away", offline: "We are offline" };
let greetings = {};

$("title").textContent = `Talk to ${channel}`;

function render() {
  const { rung } = watched.group;
  $("banner").dataset.rung = rung;
  $("banner").textContent = headlines[rung];
  $("greeting").textContent = greetings[rung] ?? "";
  $("agents").replaceChildren(
    ...listed(watched).map((v) => element("li", { "data-testid": `agent-${v.id}`, "data-status": v.status, "data-class": v.class }, dot(v), v.id, element("span", { class: "soft" }, v.label))),
  );
  $("chat").hidden = rung === "offline";
  $("leave").hidden = rung === "available";
}

presence.addEventListener("change", render);
presence.addEventListener("removed", () => {
  watched = offline;
  render();
});
async function mine() {
  const work = await (await fetch("/api/work")).json();
  return work.filter((c) => c.client === visitor && c.channel === channel);
}
async function answer() {
  const [chat] = await mine();
  if (chat) $("answer").textContent = chat.agent ? `${chat.agent} is with you.` : "Somebody will be with you as soon as they are free.";
  else if ($("answer").dataset.chat) $("answer").textContent = "Your conversation has ended. Write again any time.";
  if (chat) $("answer").dataset.chat = chat.id;
}
$("chat").addEventListener("click", async () => {
  const again = $("answer").dataset.chat;
  await ask(again ? { do: "message", from: visitor } : { do: "start", channel, from: visitor }, (refused) => refused && ($("answer").textContent = refused));
  answer();
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
  if (m.type === "work" && m.value.client === visitor) answer();
});
refresh();

presence.open();
watched = await presence.watch(channel);
render();
