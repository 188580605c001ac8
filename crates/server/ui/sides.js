// The panels at the side: checkpoints, sessions, statistics.

import { call } from "./api.js";
import { $, act, ask, button, bytes, counted, failed, h, KINDS, lag, notice, number, tally, time } from "./dom.js";
import { compareWith } from "./inspector.js";
import * as moves from "./moves.js";
import { checkpoints, database, emit, on, place, select, session, state } from "./store.js";

const FIXED = { creation: "Where the history begins", migration: "The end of the first schema migration" };
const small = (text, onclick, label) => button(text, onclick, { class: "small", "aria-label": label });

// ---------------------------------------------------------------- checkpoints

function checkpoint(one) {
  const fixed = one.kind !== "manual";
  const here = place() === one.transaction;
  const buttons = [
    small("Look", () => select(one.transaction - 1, { from: "panel", push: true, again: true }), `Look at checkpoint ${one.name}`),
    small("Go here", (event) => act(event.target, "Going…", () => moves.go(one.id)), `Go here: checkpoint ${one.name}`),
    small("Compare", () => compare(one), `Compare checkpoint ${one.name} with another position`),
    ...(fixed ? [] : [small("Rename", () => rename(one), `Rename checkpoint ${one.name}`), small("Delete", () => remove(one), `Delete checkpoint ${one.name}`)]),
  ];
  return h("li", { class: `${fixed ? "fixed" : ""}${here ? " here" : ""}` },
    h("b", {}, one.name), " ", here ? h("span", { class: "badge" }, "the replica is here") : "",
    h("p", {}, one.description || (fixed ? FIXED[one.kind] : `made ${time(one.created_at)}`)),
    h("p", {}, h("code", {}, one.lsn), `, transaction ${number(one.transaction)}`), h("div", { class: "row" }, buttons));
}

async function compare(one) {
  const others = checkpoints().filter((other) => other.id !== one.id);
  const choice = h("select", { "aria-label": "Other position" }, h("option", { value: "@" }, "the replica"), h("option", { value: "head" }, "head"), others.map((other) => h("option", { value: other.id }, other.name)));
  if ((await ask(`Compare ${one.name} with`, h("p", { class: "row" }, choice), [["go", "Compare"], ["", "Cancel"]])) === "go") await compareWith(one.id, choice.value);
}

async function rename(one) {
  const name = h("input", { value: one.name, "aria-label": "New name", maxlength: 200, autofocus: true });
  name.addEventListener("keydown", (event) => event.key === "Enter" && (event.preventDefault(), $("dialog").close("rename")));
  if ((await ask(`Rename ${one.name}`, h("p", { class: "row" }, h("label", {}, "Name ", name)), [["rename", "Rename"], ["", "Cancel"]])) !== "rename") return;
  await call("PATCH", `/api/checkpoints/${one.id}`, { name: name.value }).catch(failed);
  emit("stale");
}

async function remove(one) {
  if ((await ask(`Delete checkpoint ${one.name}?`, h("p", { class: "row" }, "Only the name goes; the log keeps its history."), [["delete", "Delete"], ["", "Keep"]])) !== "delete") return;
  await call("DELETE", `/api/checkpoints/${one.id}`).catch(failed);
  emit("stale");
}

const drawCheckpoints = () => $("checkpoint-list").replaceChildren(...checkpoints().map(checkpoint));

// ---------------------------------------------------------------- sessions

function oneSession(one) {
  const looked = one.id === session()?.id;
  const where = one.position ? `transaction ${number(one.position.transaction)}` : `its database is ${one.state}`;
  const states = [one.active && "active", looked && "shown", one.follow && "follows head", one.open && "open for writes", one.state !== "settled" && one.state].filter(Boolean);
  const buttons = [
    looked ? null : small("Show", () => emit("show", one.id), `Show session ${one.name}`),
    one.active ? null : small("Make active", (event) => act(event.target, "…", () => change(call("POST", "/api/sessions/switch", { session_id: one.id }))), `Make active: session ${one.name}`),
    small(one.follow ? "Stay" : "Follow head", (event) => act(event.target, "…", () => follow(one)), one.follow ? `Stay where it is: session ${one.name}` : `Follow head with session ${one.name}`),
    one.name === "default" ? null : small("Delete", () => removeSession(one), `Delete session ${one.name}`),
  ];
  return h("li", { class: looked ? "here" : "" }, h("b", {}, one.name), " ", states.map((state) => [h("span", { class: "badge" }, state), " "]).flat(),
    h("p", {}, `Database ${one.target_database}, ${where}`), h("div", { class: "row" }, buttons));
}

async function change(asked) {
  await asked;
  emit("stale");
}

function follow(one) {
  const request = one.follow ? { position: "@" } : { position: "head", follow: true };
  return change(call("POST", "/api/navigate", { ...request, session_id: one.id, limit: 1 }));
}

async function removeSession(one) {
  const text = h("p", { class: "row" }, `Its database ${one.target_database} on the output server is dropped.`);
  if ((await ask(`Delete session ${one.name}?`, text, [["delete", "Delete"], ["", "Keep"]])) !== "delete") return;
  await change(call("DELETE", `/api/sessions/${one.id}`)).catch(failed);
}

function drawSessions() {
  $("session-list").replaceChildren(...state.sessions.map(oneSession));
  $("session").replaceChildren(...state.sessions.map((one) => h("option", { value: one.id, selected: one.id === session()?.id }, one.active ? `${one.name} (active)` : one.name)));
}

// ---------------------------------------------------------------- statistics

function keyframes(all) {
  return all ? `${number(all.keyframes.length + all.spares.length)}, ${bytes(all.used_bytes)}` : "?";
}

function drawStatistics() {
  const of = database();
  const log = of?.log;
  if (!log) return void $("numbers").replaceChildren(h("div", {}, h("dt", {}, "Listener"), h("dd", {}, of?.listener.state ?? "absent")));
  const rate = log.recent ? `${(log.recent.transactions / log.recent.seconds).toFixed(1)}/s` : "?";
  const rows = [["Transactions", number(log.transactions)], ["Entries", number(log.entries)], ["In the last minute", rate], ["Not captured yet", of.slot ? lag(of.slot) : "?"],
    ["Log on disk", bytes(log.bytes)], ["Kept by the slot", of.slot?.retained_bytes ? bytes(of.slot.retained_bytes) : "?"], ["Segments", number(log.segments)], ["Tables", number(log.tables.length)], ["Keyframes, spares", keyframes(of.keyframes)]];
  $("numbers").replaceChildren(...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  const head = h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Entries"), KINDS.slice(0, 3).map(([, name, sign, word]) => h("th", { scope: "col", class: name }, h("span", { "aria-hidden": "true" }, sign), h("span", { class: "hidden" }, word)))));
  const row = (one) => h("tr", {}, h("th", { scope: "row" }, one.table.replace(/^public\./, "")), KINDS.slice(0, 3).map(([key]) => h("td", {}, number(one.counts[key]))));
  const all = { table: "all tables", counts: log.counts };
  $("table-numbers").replaceChildren(head, h("tbody", {}, [all, ...log.tables.slice(0, 20)].map(row)));
  const others = KINDS.slice(3).filter(([key]) => log.counts[key]);
  if (others.length) $("numbers").append(h("div", {}, h("dt", {}, "Other entries"), h("dd", {}, tally({ ...log.counts, inserts: 0, updates: 0, deletes: 0 }))));
  $("tables").replaceChildren(...log.tables.map((one) => h("option", { value: one.table })));
}

export function start() {
  $("create").addEventListener("submit", (event) => {
    event.preventDefault();
    act(event.submitter, "Creating…", async () => { await moves.create({ name: $("name").value.trim() }); event.target.reset(); });
  });
  $("create-session").addEventListener("submit", (event) => {
    event.preventDefault();
    act(event.submitter, "Creating…", async () => {
      const made = await call("POST", "/api/sessions", { name: $("session-name").value.trim(), database: database()?.database });
      notice(`Session ${made.name} has the database ${made.target_database}, at ${made.position?.lsn ?? made.state}.`);
      event.target.reset();
      emit("stale");
    });
  });
  $("session").addEventListener("change", (event) => emit("show", event.target.value));
  let drawn;
  on("place checkpoints session", () => {
    // Nothing is drawn anew under the pointer, or in focus, that is as it was.
    const now = JSON.stringify([checkpoints(), state.sessions, state.session]);
    if (now === drawn) return;
    drawn = now;
    drawCheckpoints();
    drawSessions();
  });
  on("status", drawStatistics);
}

