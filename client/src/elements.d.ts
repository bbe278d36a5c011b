import type { Presence, View } from "./presence.js";

/** Sets the presence of elements without one of their own. */
export declare function usePresence(presence: Presence): void;

declare class Follower extends HTMLElement {
  /** The presence of the element. usePresence sets a default. */
  presence: Presence | undefined;
}

/** `<presence-dot user channel name label unknown notitle>` */
export declare class PresenceDot extends Follower {}

/** `<presence-widget channel available away offline unknown nomembers>` */
export declare class PresenceWidget extends Follower {
  /** Returns the name to show for a member's view. Default: the id. */
  nameOf: (view: View) => string;
}

declare global {
  interface HTMLElementTagNameMap {
    "presence-dot": PresenceDot;
    "presence-widget": PresenceWidget;
  }
}
