// The address holds what is looked at: session, position, filters, axis and zoom; so a link shows the same, and
// back and forward work.

import { get } from "./api.js";
import { transaction } from "./log.js";
import { isBeginning, look, on, session, state } from "./store.js";

export const FILTERS = ["text", "key", "table", "operation", "since", "until"];
let applying = false;
let last = 0;

async function parameters() {
  const made = new URLSearchParams();
  const shown = session();
  if (shown && !shown.active) made.set("session", shown.name);
  if (state.selected !== null) made.set("at", isBeginning(state.selected) ? "CREATION" : ((await transaction(state.selected))?.position.lsn ?? ""));
  for (const name of FILTERS) if (state.filter[name]) made.set(name, state.filter[name]);
  if (state.axis !== "transaction") made.set("axis", state.axis);
  if (state.zoom) made.set("zoom", `${state.zoom.since}..${state.zoom.until}`);
  // Slashes and colons may stand in a query as they are, and read better.
  return made.toString().replaceAll("%2F", "/").replaceAll("%3A", ":");
}

/** Writes the address; steps that follow quickly are one entry of the browser's history. */
async function write(push) {
  if (applying) return;
  const query = await parameters().catch(() => null);
  if (query === null || applying) return;
  const address = query ? `/?${query}` : "/";
  if (address === location.pathname + location.search) return;
  const now = Date.now();
  if (push || now - last > 1500) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
  last = now;
}

let due = null;
function soon(how) {
  clearTimeout(due);
  due = setTimeout(() => write(how?.push), how?.push ? 0 : 200);
}

/** Reads the address into the state; what it names and cannot be found is left out, and told. */
export async function read() {
  const given = new URLSearchParams(location.search);
  state.filter = Object.fromEntries(FILTERS.filter((name) => given.get(name)).map((name) => [name, given.get(name)]));
  state.axis = given.get("axis") === "time" ? "time" : "transaction";
  const wanted = state.sessions.find((one) => one.name === given.get("session"));
  look(wanted?.id ?? state.status?.session?.id ?? null);
  // After the session, for another database's takes the zoom away.
  const [since, until] = (given.get("zoom") ?? "").split("..");
  state.zoom = since && until ? { since, until } : null;
  if (!given.get("at")) return null;
  const position = await get("/api/position", { at: given.get("at"), session_id: state.session });
  return position.transaction - 1;
}

export async function guarded(action) {
  applying = true;
  try {
    await action();
  } finally {
    applying = false;
  }
}

export function start() {
  on("selected", soon);
  on("filter zoom session", () => soon({ push: true }));
}
