/** The view of a subject. Its fields depend on the audience. */
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
  /** The chosen status, if another one is shown. */
  masked?: string;
  lastSeen?: string;
  lastLogin?: string;
  /** Whether new work may be given, in the work channel without a name. */
  routable?: boolean;
  /** The named work channels in which new work may be given. */
  routableOn?: string[];
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
  /** The member's new view. Without a view the member is removed. */
  view?: View;
}

/** An error of the server, or of a call without an answer. */
export declare class PresenceError extends Error {
  /** A code of the protocol. Also "unavailable" if no answer arrives within 10 s. */
  code: string;
  /** The allowed values, if they are a short list. */
  allowed?: string[];
  channel?: string;
}

/**
 * - closed: by close
 * - connecting
 * - open
 * - waiting: before another try
 * - refused: the server refused the connection; call open to try again
 * - suspended: the page is frozen, or kept by the browser for its back button
 * - logout: by logout, in this page or another
 */
export type State = "closed" | "connecting" | "open" | "waiting" | "refused" | "suspended" | "logout";

export interface Options {
  /**
   * The name of the connection. Pages of one origin with the same name share one
   * connection, so use the id of the logged-in user. Default: the url.
   */
  name?: string;
  /** The URL of the fallback to server-sent events, without /events. No fallback by default. */
  sse?: string;
  /** A token for the server, or a function that returns one. Called for each try. */
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
  /** A channel has changed, or its first list has arrived. */
  change: CustomEvent<{ channel: Channel; changes: Change[] }>;
  /** Access to a channel has ended, or watching it was refused. */
  removed: CustomEvent<{ channel: Channel; error: PresenceError }>;
  /** The server refused a message without a pending call. */
  error: CustomEvent<PresenceError>;
  /** Every message of the server, in the form of the protocol. */
  message: CustomEvent<{ type: string; [field: string]: unknown }>;
}

export interface Presence extends EventTarget {
  readonly state: State;
  /** The own view; null for a visitor. */
  readonly self: View | null;
  /** The statuses that the person may choose. */
  readonly statuses: readonly Status[];

  /** Opens the connection. Set login if the person has just entered credentials. */
  open(how?: { login?: boolean }): void;
  /** Closes the connection for this page. Other pages keep it. */
  close(): void;
  /**
   * Logs out all pages with the same name, without a grace. Without a connection
   * the server does not receive it, and the person is lost after the lease.
   */
  logout(): void;
  /** Requests the statuses again, after a change of the policy. */
  refresh(): void;

  /** Chooses a status, until `for` milliseconds have passed if given. Resolves to the own view. */
  claim(status: string, options?: { for?: number; reason?: string; text?: string }): Promise<View>;
  /** Ends the claim of a key, or all claims. */
  release(key?: "base" | "timed"): Promise<View>;
  /**
   * Sends any other message of the protocol with an answer, such as
   * `{ type: "request", status: "lunch" }` or `{ type: "ack", id }`.
   */
  ask(message: { type: string; [field: string]: unknown }): Promise<View | undefined>;

  /** Follows a channel. Resolves once its members are known; rejects with a PresenceError. */
  watch(channel: string): Promise<Channel>;
  /** Ends one call of watch. */
  unwatch(channel: string): void;

  /** Sets the channel that the person looks at while this page has the focus. */
  focus(channel?: string): void;
  /** Reports an input that the page cannot notice by itself. */
  input(): void;

  addEventListener<K extends keyof PresenceEvents>(type: K, listener: (event: PresenceEvents[K]) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<K extends keyof PresenceEvents>(type: K, listener: (event: PresenceEvents[K]) => void, options?: boolean | EventListenerOptions): void;
  removeEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | EventListenerOptions): void;
}

/** Makes a presence for the WebSocket endpoint at url. Nothing happens before open. */
export declare function createPresence(url: string, options?: Options): Presence;
