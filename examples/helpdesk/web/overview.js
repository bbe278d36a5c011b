import { follow } from "./feed.js";
import { element, getState, post } from "./page.js";

const policy = document.querySelector("#policy");
const form = document.querySelector("#greeting");
let clock = { at: 0, real: 0, speed: 1 };

async function refresh() {
  const state = await getState();
  clock = { at: Date.parse(state.now), real: performance.now(), speed: state.speed };
  policy.replaceChildren(...state.policies.map((name) => element("option", { value: name, selected: name === state.policy }, name)));
  for (const b of document.querySelectorAll("[data-speed]")) b.setAttribute("aria-pressed", Number(b.dataset.speed) === state.speed);
  const messages = (state.messages ?? []).map((m) => element("li", {}, element("b", {}, m.from), " ", m.text));
  document.querySelector("#messages").replaceChildren(...(messages.length ? messages : [element("li", { class: "soft" }, "none")]));
  if (document.activeElement !== form.text) form.text.value = state.greetings[form.rung.value];
}

for (const b of document.querySelectorAll("[data-speed]")) b.addEventListener("click", () => post("/api/speed", { speed: Number(b.dataset.speed) }));
policy.addEventListener("change", () => post("/api/policy", { policy: policy.value }));
form.rung.addEventListener("change", refresh);
form.addEventListener("submit", (e) => {
  e.preventDefault();
  post("/api/greeting", { rung: form.rung.value, text: form.text.value });
});

follow((m) => {
  if (m.type !== "status") refresh();
});
refresh();

setInterval(() => {
  const now = new Date(clock.at + (performance.now() - clock.real) * clock.speed);
  document.querySelector("[data-testid=clock]").textContent = clock.at ? now.toISOString().slice(0, 19).replace("T", " ") + " UTC" : "";
}, 200);
