// What the page knows, and who wants to hear when it changes. One cursor, `selected`, is shared by everything.

export const state = {
  status: null,
  checkpoints: [],
  /** The backups, oldest first; an error where they cannot be listed. */
  backups: [],
  sessions: [],
  /** The session that is looked at, by id; the active one at first. */
  session: null,
  /** Transactions in the log, with those that it does not have any more. */
  head: 0,
  /** The selected transaction's ordinal; the one before the first is the beginning, null is none. */
  selected: null,
  filter: {},
  axis: "transaction",
  /** What the timeline shows: two positions, or null for the whole log. */
  zoom: null,
};

const heard = {};

export const on = (topics, listener) => topics.split(" ").forEach((topic) => (heard[topic] ??= []).push(listener));
export const emit = (topic, detail) => (heard[topic] ?? []).forEach((listener) => listener(detail));

export const session = () => state.sessions.find((one) => one.id === state.session) ?? state.status?.session ?? null;
export const databaseName = () => session()?.database ?? state.status?.databases[0]?.database;
export const database = () => state.status?.databases.find((one) => one.database === databaseName()) ?? state.status?.databases[0];
/** The transactions that the replica has; null where its database does not say. */
export const place = () => session()?.position?.transaction ?? null;
/** The ordinal of the first transaction of the log: not 0 where gc removed those before. */
export const begins = () => database()?.creation?.transaction ?? 0;
export const isBeginning = (ordinal) => ordinal < begins();
export const checkpoints = () => state.checkpoints.filter((one) => one.database === databaseName());

/** The captured database that head, the cursor, the zoom and the transactions at hand are of. */
let known;

/** Looks at a session: the only way to do so. Where it is of another database, what was of the one before is forgotten. */
export function look(id) {
  state.session = id;
  const before = known;
  known = databaseName();
  const head = database()?.head?.transaction ?? 0;
  if (known === before) return void (state.head = Math.max(state.head, head));
  state.head = head;
  if (before === undefined) return;
  select(null);
  emit("database");
}

/** Moves the cursor. `how` says who moved it: the list scrolls there unless it was the list. */
export function select(ordinal, how = {}) {
  const chosen = ordinal === null ? null : Math.max(begins() - 1, Math.min(ordinal, state.head - 1));
  if (chosen === state.selected && !how.again) return;
  state.selected = chosen;
  emit("selected", how);
}
