// The header: whether both servers answer, what capture does, and where the replica is. What is wrong is said
// in a card of its own, with what to do.

import { $, counted, h, lag } from "./dom.js";
import * as stops from "./stops.js";
import { checkpoints, database, on, place, session, state } from "./store.js";

const WORKING = ["streaming", "catching_up", "starting"];

function chip(id, server, more, warn) {
  const box = $(id);
  box.className = `chip ${!server.connected ? "bad" : warn ? "warn" : "good"}`;
  box.querySelector("code").textContent = server.dsn.replace(/^postgres(ql)?:\/\//, "");
  box.querySelector(".state").textContent = server.connected ? more : "does not answer";
  box.title = server.version ? `PostgreSQL ${server.version}` : (server.error ?? "");
}

function captured(of) {
  const words = { streaming: "capturing", catching_up: "catching up" };
  const parts = [words[of.listener.state] ?? `capture ${of.listener.state}`];
  if (of.slot && !of.slot.error) parts.push(`lag ${lag(of.slot)}`, `slot ${of.slot.wal_status ?? "without a state"}`);
  return parts.join(" · ");
}

function drawPlace() {
  const shown = session();
  if (!shown) return void ($("place").textContent = "There is no session yet.");
  if (!shown.position) return void ($("place").textContent = `its database is ${shown.state}`);
  const behind = state.head - shown.position.transaction;
  const named = checkpoints().filter((one) => one.transaction === shown.position.transaction).map((one) => one.name);
  $("place").replaceChildren("at ", h("code", {}, shown.position.lsn), named.length ? ` (${named.join(", ")})` : "",
    behind > 0 ? `, ${counted(behind, "transaction", "transactions")} before head` : ", at head", shown.follow ? ", follows it" : "");
  $("head").disabled = behind === 0 && place() !== null;
}

function card(title, text, bad = true) {
  return h("div", { class: `state-card${bad ? " bad" : ""}` }, h("h2", {}, title), h("p", {}, text));
}

/** What stands in the way, each with what to do. */
function troubles() {
  const { status } = state;
  const of = database();
  const found = [];
  for (const [name, server] of [["input", status.input], ["output", status.output]]) {
    if (!server.connected) found.push(card(`The ${name} server does not answer`, `${server.error ?? server.dsn}. ${name === "input" ? "What was captured can be looked at; a running listener goes on by itself when it is back." : "The history can be looked at; moves work again when it is back."}`));
  }
  if (of && !of.captured) found.push(card("Nothing is captured yet", `The database ${of.database} has no log. Run postgres-test-replay up, or listener, which set up capture.`, false));
  else if (of && !WORKING.includes(of.listener.state) && (status.input.connected || of.listener.state !== "reconnecting")) {
    const error = of.listener.details?.error;
    found.push(card(`Capture is ${of.listener.state}`, `${error ? `${error}. ` : ""}What changes on ${of.database} now is kept by its slot, and is captured when the listener runs again: postgres-test-replay listener. What is wrong is said by postgres-test-replay doctor.`));
  }
  if (of?.slot?.error) found.push(card("The slot cannot be looked at", `${of.slot.error}. postgres-test-replay doctor says which right is missing.`));
  if (of?.log_error) found.push(card("The log cannot be read", of.log_error));
  return found;
}

function warnings() {
  const texts = [...state.status.warnings, database()?.schema_changes].filter(Boolean);
  if (!texts.length) return [];
  const title = counted(texts.length, "thing to know about capture", "things to know about capture");
  return [h("details", { class: "state-card" }, h("summary", {}, title), h("ul", {}, texts.map((text) => h("li", {}, text))))];
}

function draw() {
  if (!state.status) return;
  const { input, output } = state.status;
  const of = database();
  chip("input", input, of ? captured(of) : "", of && !WORKING.includes(of.listener.state));
  const shown = session();
  chip("output", output, shown ? `${shown.target_database} ${shown.state}` : "no session", shown && shown.state !== "settled");
  const open = $("states").querySelector("details")?.open;
  const found = [...troubles(), ...stops.cards(), ...warnings()];
  $("states").replaceChildren(...found);
  $("states").hidden = !found.length;
  if (open) $("states").querySelector("details").open = true;
}

export function start() {
  on("status session", draw);
  on("place session head checkpoints", drawPlace);
}
