/** What somebody shows to those who look. Which fields there are depends on who looks. */
export interface View {
  /** Absent in the default tenant. */
  tenant?: string;
  id: string;
  status: string;
  /** Absent while the status is "unknown" or "disabled". */
  class?: "available" | "away" | "busy" | "dnd" | "offline";
  label?: string;
  color?: string;
  kind?: string;
  reason?: string;
  text?: string;
  /** Times of day are RFC 3339. */
  since?: string;
  setAt?: string;
  until?: string;
  cause?: string;
  /** The status chosen, where another is shown. */
  masked?: string;
  lastSeen?: string;
  lastLogin?: string;
  routable?: boolean;
  work?: "free" | "active" | "finishing" | "not-receiving";
  threads?: number;
  pinned?: number;
  /** The status that follows once the work is done. */
  pending?: string;
  /** The status asked for, until it is decided. */
  request?: string;
  /** The number of connections, if the policy shows it. */
  devices?: number;
}

/** A status that the person may choose. */
export interface Status {
  id: string;
  label: string;
  class: NonNullable<View["class"]>;
  color?: string;
}

/** A channel being watched. Its members and group are kept up to date. */
export interface Channel {
  readonly id: string;
  /** By id. Replaced by another Map with each snapshot. */
  readonly members: ReadonlyMap<string, View>;
  readonly group: {
    rung: "available" | "away" | "offline";
    count: number;
    /** Why a channel is offline: it is outside its hours, or within them without a member present. */
    reason?: "closed" | "unstaffed";
    /** When a closed channel opens next, if that is known. */
    nextOpen?: string;
  };
}

export interface Change {
  op: "joined" | "updated" | "left";
  id: string;
  /** The member's row from now on; without one the row is gone. */
  view?: View;
}

/** What the server refused. */
export declare class PresenceError extends Error {
  /** See the protocol. "unavailable" also when no answer came within ten seconds. */
  code: string;
  /** What would have done, where that is a short list. */
  allowed?: string[];
  channel?: string;
}

/**
 * - closed: by close
 * - connecting
 * - open
 * - waiting: before another try
 * - refused: the server does not want it back; open again to try all the same
 * - suspended: the page is frozen, or kept by the browser for its back button
 * - logout: by logout, in this page or another
 */
export type State = "closed" | "connecting" | "open" | "waiting" | "refused" | "suspended" | "logout";

export interface Options {
  /**
   * Names who is there. Pages of one origin with the same name share one
   * connection, so it must name the person that the server will find in them:
   * give the user's id. Default: the url.
   */
  name?: string;
  /** Where the fallback to server-sent events is, without /events. None by default. */
  sse?: string;
  /** A token for the server, or what gets one. Asked anew for each try. */
  token?: string | (() => string | Promise<string>);
  /** The class of device, for which the policy may have rules. */
  device?: string;
  /** False gives every page a socket of its own. */
  shared?: boolean;
  /** False if only calls of input count as input. */
  activity?: boolean;
}

export interface PresenceEvents {
  /** The state of the connection has changed. */
  state: CustomEvent<State>;
  /** The own view has changed. */
  self: CustomEvent<View | null>;
  /** A channel has changed, or its list has come for the first time. */
  change: CustomEvent<{ channel: Channel; changes: Change[] }>;
  /** Access to a channel has ended, or watching it was refused. */
  removed: CustomEvent<{ channel: Channel; error: PresenceError }>;
  /** The server complains about something that nobody waits for. */
  error: CustomEvent<PresenceError>;
  /** Every message of the server, as the protocol has it. */
  message: CustomEvent<{ type: string; [field: string]: unknown }>;
}

export interface Presence extends EventTarget {
  readonly state: State;
  /** The own view; null for those who only watch. */
  readonly self: View | null;
  /** The statuses that the person may choose. */
  readonly statuses: readonly Status[];

  /** Begins. With login, the person has just entered credentials. */
  open(how?: { login?: boolean }): void;
  /** Ends, for this page; others go on. */
  close(): void;
  /**
   * Ends for all pages with the same name. Nobody waits for the person to come
   * back. Without a connection the server does not hear of it: the person is lost
   * then, as after any silence.
   */
  logout(): void;
  /** Asks for the statuses anew, after a change of the policy. */
  refresh(): void;

  /** Chooses a status, for so many milliseconds if `for` is given. Resolves to the own view. */
  claim(status: string, options?: { for?: number; reason?: string; text?: string }): Promise<View>;
  /** Ends what was chosen: of one key, or all of it. */
  release(key?: "base" | "timed"): Promise<View>;
  /**
   * Says anything else of the protocol that is answered, such as
   * `{ type: "request", status: "lunch" }` or `{ type: "ack", id }`.
   */
  ask(message: { type: string; [field: string]: unknown }): Promise<View | undefined>;

  /** Follows a channel. Resolves once its members are known; rejects with a PresenceError. */
  watch(channel: string): Promise<Channel>;
  /** Takes one call of watch back. */
  unwatch(channel: string): void;

  /** The person looks at a channel in this page, whenever it has the focus. */
  focus(channel?: string): void;
  /** The person did something that the page cannot notice by itself. */
  input(): void;

  addEventListener<K extends keyof PresenceEvents>(type: K, listener: (event: PresenceEvents[K]) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<K extends keyof PresenceEvents>(type: K, listener: (event: PresenceEvents[K]) => void, options?: boolean | EventListenerOptions): void;
  removeEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | EventListenerOptions): void;
}

/** Makes a presence for the WebSocket endpoint at url. Nothing happens before open. */
export declare function createPresence(url: string, options?: Options): Presence;
