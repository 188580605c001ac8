// Moves of the session: first what it would take, then how far it is, then what it did and how to take it back.

import { call } from "./api.js";
import { $, act, ask, button, counted, failed, h, notice, number, span } from "./dom.js";
import { emit, on, session, state } from "./store.js";

const WAYS = { redo: "forwards by the net effect", undo: "backwards by the net effect", keyframe: "from a keyframe: its database is made anew, and connections to it are ended", nothing: "it is there already" };

const request = (more, id = session()?.id) => ({ ...more, session_id: id, limit: 1 });

function distance(plan) {
  const from = plan.from?.transaction;
  if (from === undefined) return counted(plan.to.transaction, "transaction", "transactions");
  const steps = plan.to.transaction - from;
  return `${counted(Math.abs(steps), "transaction", "transactions")} ${steps < 0 ? "back" : "forward"}, ${counted(plan.count, "entry", "entries")}`;
}

/** What going there would take, in words. */
export async function plan(position, signal) {
  if (!session()) return "There is no session yet.";
  const planned = await call("POST", "/api/navigate", request({ position, dry_run: true }), signal);
  if (planned.strategy === "nothing") return "The replica is here.";
  const ended = planned.connections_to_end?.length;
  return `${distance(planned)}${ended ? ` · ends ${counted(ended, "connection", "connections")}` : ""} · ${planned.strategy}: ${planned.reason || WAYS[planned.strategy]} · about ${span(planned.elapsed_ms)}`;
}

// ---------------------------------------------------------------- one after the other

/** What was asked for while the replica moves; nothing that is pressed is lost, and nothing overtakes. */
const waiting = [];
let busy = false;

function inTurn(what, action) {
  emit("turn");
  const id = session()?.id;
  return new Promise((done, fail) => {
    waiting.push({ what, done, fail, action: () => action(id) });
    if (busy) showWaiting();
    else next();
  });
}

async function next() {
  busy = true;
  while (waiting.length) {
    const one = waiting.shift();
    showWaiting();
    try {
      one.done(await one.action());
    } catch (error) {
      one.fail(error);
      leaveOut(`After an error in ${one.what}`);
    }
  }
  busy = false;
}

/** What waits was meant for where the move before it would have ended. */
function leaveOut(why) {
  const left = waiting.splice(0);
  if (left.length) notice(`${why}, this was not done: ${left.map((one) => one.what).join(", ")}.`, "warn");
  left.forEach((one) => one.done());
}

/** Takes the session there. A move that ends connections is asked about first. */
export const go = (position) => inTurn(`go to ${position}`, (id) => planned("/api/navigate", request({ position }, id), id));

/** Moves; what ends connections, or makes the database anew, is asked about first. */
async function planned(path, wanted, id) {
  const plan = await call("POST", path, { ...wanted, dry_run: true });
  if (await agreed(plan, id)) await under(() => call("POST", path, wanted));
  else leaveOut("As the replica stays");
}

const otherWay = (one) => h("li", {}, `${one.strategy}, ${one.way}: ${one.barred ?? `about ${span(one.estimate_ms)}`}`);

async function agreed(planned, id) {
  const ended = planned.connections_to_end ?? [];
  // Where there is no database yet nothing is lost by making it.
  if ((planned.strategy !== "keyframe" || !planned.from) && !ended.length) return true;
  const text = [h("p", {}, `${distance(planned)}, about ${span(planned.elapsed_ms)}.`), h("p", {}, `Why this way: ${planned.reason}.`),
    planned.alternatives?.length ? h("details", {}, h("summary", {}, "Other ways"), h("ul", {}, planned.alternatives.map(otherWay))) : "",
    planned.strategy === "keyframe" ? h("p", {}, `The database ${state.sessions.find((one) => one.id === id)?.target_database ?? ""} is made anew.`) : "",
    ended.length ? [h("p", {}, `${counted(ended.length, "connection", "connections")} to it will be ended:`), h("ul", {}, ended.map((one) => h("li", {}, one)))] : h("p", {}, "Nobody is connected to it now.")];
  return (await ask(`Go there by ${planned.strategy}?`, text, [["go", "Go there"], ["", "Stay"]])) === "go";
}

const STEPS = { undo: "/api/undo", redo: "/api/redo" };

export const step = (direction) => inTurn(direction, (id) => planned(STEPS[direction], { session_id: id }, id));

// ---------------------------------------------------------------- under way

const progress = h("div", { class: "notice warn", hidden: true });
const then = h("p", { class: "soft", hidden: true });
let running = null;
/** The move that was asked to stop. */
let stopping = null;

function showWaiting() {
  then.hidden = !waiting.length;
  then.textContent = `Then: ${waiting.map((one) => one.what).join(", ")}.`;
}

function showProgress(move) {
  if (move.session_id !== session()?.id) return;
  running = move.state === "running" ? move : null;
  progress.hidden = !running;
  if (!running) return;
  const { step: doing = "getting ready", done = 0, total = null, unit = "" } = move.progress ?? {};
  const bar = h("progress", { "aria-label": doing, max: total ?? undefined, value: total === null ? undefined : done });
  const end = stopping === move.id ? h("p", { class: "soft" }, "It stops at the next position.")
    : button("Stop at the next position", () => stop(move).catch(failed), { class: "small" });
  progress.replaceChildren(h("p", {}, `The replica goes to ${move.to.lsn}: ${doing}${total ? `, ${number(done)} of ${number(total)} ${unit}` : ""}`), bar, then, end);
}

/** After everything was fetched anew: its end may have been told while nobody heard. */
async function lookAgain() {
  const shown = running;
  if (!shown) return;
  if (shown.session_id !== session()?.id) return void (progress.hidden = true);
  const now = await call("GET", `/api/moves/${shown.id}`).catch(() => null);
  if (now && running?.id === now.id) showProgress(now);
}

function stop(move) {
  stopping = move.id;
  showProgress(running ?? move);
  leaveOut("As the move was stopped");
  return call("DELETE", `/api/moves/${move.id}`);
}

async function under(asked) {
  try {
    told(await asked());
  } finally {
    running = null;
    progress.hidden = true;
    emit("stale");
  }
}

/** What a move did: everything that it says, and the way back. */
function told(moved) {
  if (moved.strategy === "nothing") return void notice("The replica is there already.", "", 4);
  const more = [...moved.notices];
  if (moved.connections_ended) more.unshift(`${counted(moved.connections_ended, "connection", "connections")} to its database had to be ended.`);
  const text = `Arrived by ${moved.strategy}: ${counted(moved.transactions, "transaction", "transactions")}, ${counted(moved.entries_applied, "entry", "entries")} applied in ${span(moved.elapsed_ms)}.`;
  const box = notice([h("p", {}, text), more.length ? h("ul", {}, more.map((one) => h("li", {}, one))) : ""], more.length ? "warn" : "", more.length ? 0 : 10);
  box.lastChild.prepend(button("Undo this move", (event) => { box.remove(); undo(event.target); }, { class: "small" }));
}

const undo = (pressed) => act(pressed, "Going…", () => step("undo"));

// ---------------------------------------------------------------- checkpoints

/** Asks for a name and makes a checkpoint there; without a position, now. */
export async function checkpointAt(at, suggestion = "") {
  const name = h("input", { value: suggestion, required: true, maxlength: 200, autofocus: true, "aria-label": "Name" });
  const description = h("input", { placeholder: "optional", "aria-label": "Description" });
  const enter = (event) => event.key === "Enter" && (event.preventDefault(), $("dialog").close("create"));
  [name, description].forEach((field) => field.addEventListener("keydown", enter));
  const content = [h("p", { class: "row" }, h("label", {}, "Name ", name), h("label", {}, "Description ", description)), h("p", { class: "soft" }, at ? `At ${at}.` : "Now, exactly: every transaction that has committed is before it.")];
  if ((await ask("Create a checkpoint", content, [["create", "Create"], ["", "Cancel"]])) !== "create" || !name.value.trim()) return;
  await create({ name: name.value.trim(), description: description.value.trim() || undefined, at: at ?? undefined }).catch(failed);
}

export async function create(wanted) {
  const made = await call("POST", "/api/checkpoints", { ...wanted, session_id: session()?.id });
  notice(`Checkpoint ${made.name} is at ${made.lsn}, before transaction ${number(made.transaction)}.`, "", 6);
  emit("stale");
}

export function start() {
  $("notices").append(progress);
  $("head").addEventListener("click", (event) => act(event.target, "Going…", () => go("head")));
  for (const direction of ["undo", "redo"]) $(direction).addEventListener("click", (event) => act(event.currentTarget, "Going…", () => step(direction)));
  on("move", showProgress);
  on("session", lookAgain);
}

