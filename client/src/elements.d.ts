import type { Presence, View } from "./presence.js";

/** Says which presence elements use that were given none of their own. */
export declare function usePresence(presence: Presence): void;

declare class Follower extends HTMLElement {
  /** The presence that it follows; usePresence gives one to all. */
  presence: Presence | undefined;
}

/** `<presence-dot user channel name label unknown notitle>` */
export declare class PresenceDot extends Follower {}

/** `<presence-widget channel available away offline unknown nomembers>` */
export declare class PresenceWidget extends Follower {
  /** Gives a member's view its name to show. The id by default. */
  nameOf: (view: View) => string;
}

declare global {
  interface HTMLElementTagNameMap {
    "presence-dot": PresenceDot;
    "presence-widget": PresenceWidget;
  }
}
