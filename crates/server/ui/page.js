// The page: shows what the API answers, and asks it for what the user wants. No state of its own beyond the view.
//
// store.js holds what is known and one cursor; each part draws itself when it hears of a change:
// header.js, timeline.js, list.js, inspector.js, sides.js, backups.js. This file fetches, listens, and starts them.

import { get, listen } from "./api.js";
import * as address from "./address.js";
import * as backups from "./backups.js";
import { $, failed } from "./dom.js";
import * as header from "./header.js";
import * as inspector from "./inspector.js";
import * as keys from "./keys.js";
import * as list from "./list.js";
import * as moves from "./moves.js";
import * as play from "./play.js";
import * as sides from "./sides.js";
import { databaseName, emit, look, on, select, state } from "./store.js";
import * as timeline from "./timeline.js";

// ---------------------------------------------------------------- fetching

/** Sessions as events told them since the fetch under way began; its answer may be older. */
const told = new Map();

async function fetchAll() {
  told.clear();
  // What is wrong with the folder of the backups is said in their place, and hides nothing else.
  const kept = get("/api/backups").catch((error) => error);
  const [status, checkpoints, sessions, backups] = await Promise.all([get("/api/status"), get("/api/checkpoints"), get("/api/sessions"), kept]);
  Object.assign(state, { status, checkpoints, backups, sessions: sessions.map((one) => told.get(one.id) ?? one) });
  look(sessions.some((one) => one.id === state.session) ? state.session : (status.session?.id ?? null));
}

function drawAll() {
  for (const topic of ["status", "checkpoints", "backups", "session", "place", "head"]) emit(topic);
}

let running = null;
let again = false;

/** Fetches everything, one fetch at a time: a late answer never takes the place of a newer one. */
function refresh() {
  again = true;
  running ??= (async () => {
    try {
      while (again) {
        again = false;
        await fetchAll();
        drawAll();
      }
    } finally {
      running = null;
    }
  })();
  return running;
}

let due = null;
/** Fetches everything again soon; many events are one fetch. */
function soon(milliseconds = 300) {
  due ??= setTimeout(() => {
    due = null;
    refresh().catch(() => { /* the stream says that the service is away */ });
  }, milliseconds);
}

// ---------------------------------------------------------------- what happens

function heard(event) {
  if (event.kind === "head") {
    if (event.database !== databaseName()) return;
    state.head = Math.max(state.head, event.head.transaction);
    emit("head");
    return soon(2000);
  }
  if (event.kind === "session") {
    told.set(event.session.id, event.session);
    const index = state.sessions.findIndex((one) => one.id === event.session.id);
    if (index < 0) return soon();
    state.sessions[index] = event.session;
    emit("place");
    return;
  }
  if (event.kind === "move") emit("move", event.move);
  soon();
}

function lost() {
  $("connection").hidden = false;
  $("connection").textContent = "The service does not answer; trying again.";
}

function found() {
  $("connection").hidden = true;
  state.head = 0;
  refresh().catch(failed);
}

// ---------------------------------------------------------------- the view

function show(id) {
  look(id);
  drawAll();
}

function filterForm() {
  for (const name of address.FILTERS) $(name).value = state.filter[name] ?? "";
  $("clear").hidden = !Object.keys(state.filter).length;
}

function filter(wanted) {
  state.filter = wanted;
  filterForm();
  emit("filter");
}

/** Shows what the address says. */
async function applyAddress(first) {
  await address.guarded(async () => {
    const selected = await address.read().catch((error) => void failed(error));
    filterForm();
    $("axis").value = state.axis;
    if (first) emit("ready");
    if (first ? Object.keys(state.filter).length : true) emit("filter");
    if (!first) timeline.refresh();
    select(selected ?? null, { from: "address" });
  });
  drawAll();
}

// ---------------------------------------------------------------- start

$("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  filter(Object.fromEntries(address.FILTERS.map((name) => [name, $(name).value.trim()]).filter(([, value]) => value)));
});
$("operation").addEventListener("change", () => $("filter").requestSubmit());
$("clear").addEventListener("click", () => filter({}));
window.addEventListener("popstate", () => applyAddress(false));
// A server that goes away sends no event.
setInterval(() => document.visibilityState === "visible" && soon(), 10_000);
on("stale", () => refresh().catch(failed));
on("show", show);

for (const part of [header, timeline, list, inspector, sides, backups, moves, play, address, keys]) part.start();
fetchAll().then(() => applyAddress(true)).catch((error) => { failed(error); soon(2000); });
listen({ event: heard, lost, found });
