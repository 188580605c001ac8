// Moves of the session: first what it would take, then how far it is, then what it did and how to take it back.

import { call } from "./api.js";
import { $, act, ask, button, counted, failed, h, notice, number, span } from "./dom.js";
import { emit, on, session } from "./store.js";

const WAYS = { redo: "forwards by the net effect", undo: "backwards by the net effect", keyframe: "from a keyframe: its database is made anew, and connections to it are ended", nothing: "it is there already" };

const request = (more) => ({ ...more, session_id: session()?.id, limit: 1 });

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

/** Takes the session there. A move that ends connections is asked about first. */
export async function go(position) {
  const planned = await call("POST", "/api/navigate", request({ position, dry_run: true }));
  const ended = planned.connections_to_end ?? [];
  if (planned.strategy === "keyframe" || ended.length) {
    const text = [h("p", {}, `${distance(planned)}, about ${span(planned.elapsed_ms)}.`), h("p", {}, `Why this way: ${planned.reason}.`),
      planned.strategy === "keyframe" ? h("p", {}, `The database ${session().target_database} is made anew.`) : "",
      ended.length ? [h("p", {}, `${counted(ended.length, "connection", "connections")} to it will be ended:`), h("ul", {}, ended.map((one) => h("li", {}, one)))] : h("p", {}, "Nobody is connected to it now.")];
    if ((await ask(`Go there by ${planned.strategy}?`, text, [["go", "Go there"], ["", "Stay"]])) !== "go") return;
  }
  await under(() => call("POST", "/api/navigate", request({ position })));
}

export const step = (direction) => under(() => call("POST", `/api/${direction}`, { session_id: session()?.id }));

// ---------------------------------------------------------------- under way

const progress = h("div", { class: "notice warn", hidden: true });
let running = null;

function showProgress(move) {
  if (move.session_id !== session()?.id) return;
  running = move.state === "running" ? move : null;
  progress.hidden = !running;
  if (!running) return;
  const { step: doing = "getting ready", done = 0, total = null, unit = "" } = move.progress ?? {};
  const bar = h("progress", { "aria-label": doing, max: total ?? undefined, value: total === null ? undefined : done });
  progress.replaceChildren(h("p", {}, `The replica goes to ${move.to.lsn}: ${doing}${total ? `, ${number(done)} of ${number(total)} ${unit}` : ""}`), bar,
    button("Stop at the next position", (event) => act(event.target, "Stopping…", () => call("DELETE", `/api/moves/${move.id}`)), { class: "small" }));
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
  on("session", () => { progress.hidden = true; });
}

