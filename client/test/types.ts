// Uses the package, so that the compiler checks the types.
import { createPresence, PresenceError, type Channel, type State, type View } from "@presence-go/client";
import { usePresence } from "@presence-go/client/elements";

const presence = createPresence("/presence/ws", { name: "ann", sse: "/presence", token: async () => "secret", device: "web" });
usePresence(presence);
presence.addEventListener("state", (e) => {
  const state: State = e.detail;
  return state;
});
presence.addEventListener("change", ({ detail: { channel, changes } }) => {
  for (const { op, id, view } of changes) console.log(channel.id, op satisfies "joined" | "updated" | "left", id, view?.label);
});
presence.open({ login: true });
const sales: Channel = await presence.watch("sales");
const view: View | undefined = sales.members.get("bob");
try {
  const own: View = await presence.claim("busy", { for: 60_000, reason: "call" });
  await presence.release("timed");
  console.log(view?.status, own.until);
} catch (error) {
  if (error instanceof PresenceError) console.log(error.code, error.allowed?.join());
}
document.querySelector("presence-widget")!.nameOf = (v) => v.id.toUpperCase();
// @ts-expect-error: the key does not exist
presence.release("other");
// @ts-expect-error: members are read-only
sales.members.set("bob", view!);
