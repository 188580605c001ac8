// Backups: dumps by pg_dump, with the position that they show. They are made, restored, proved and deleted here.

import { call } from "./api.js";
import { $, act, ask, button, bytes, counted, h, notice, span, time } from "./dom.js";
import { database, emit, on, session, state } from "./store.js";

const STATES = { running: "being made", complete: null, failed: "failed" };
const small = (text, onclick, label) => button(text, onclick, { class: "small", "aria-label": label });
const idOf = (one) => encodeURIComponent(one.id);

// ---------------------------------------------------------------- what is done with one

async function restore(one) {
  const into = h("select", { "aria-label": "Where to", autofocus: true }, h("option", { value: "" }, "a database of this name:"),
    state.sessions.map((other) => h("option", { value: other.id }, `session ${other.name}, whose database is replaced`)));
  const name = h("input", { value: `${one.database}_restored`, maxlength: 63, "aria-label": "Name of the database" });
  into.addEventListener("change", () => { name.hidden = Boolean(into.value); });
  const content = [h("p", { class: "row" }, into, name), h("p", { class: "soft" }, "On the output server. A session that takes a backup is open for writes afterwards, for what it holds is no position of the log; its next move makes its database anew.")];
  if ((await ask(`Restore ${one.name}`, content, [["restore", "Restore"], ["", "Cancel"]])) !== "restore") return;
  const where = into.value ? { session_id: into.value } : { database: name.value.trim() };
  const path = `/api/backups/${idOf(one)}/restore`;
  const done = await call("POST", path, where).catch((error) => anyway(error, path, where));
  if (!done) return;
  notice(`Backup ${one.name} is in the database ${done.database}, after ${span(done.elapsed_ms)}.`, "", 20);
  emit("stale");
}

/** What holds something is replaced by nobody who was not asked. */
async function anyway(error, path, where) {
  if (error.code !== "precondition" || !where.database) throw error;
  const agreed = await ask(`Replace ${where.database}?`, h("p", { class: "row" }, error.message), [["", "Keep it"], ["replace", "Replace it"]]);
  return agreed === "replace" ? call("POST", path, { ...where, replace: true }) : null;
}

async function prove(one) {
  const found = await call("POST", `/api/backups/${idOf(one)}/verify`, {});
  const counts = `${counted(found.tables, "table", "tables")}, ${counted(found.rows, "row", "rows")}`;
  if (found.sound) return void notice(`Backup ${one.name} restores whole: ${counts}.`, "", 20);
  notice([h("p", {}, `Backup ${one.name} does not restore to what was dumped (${counts}). Make another, and do not rely on this one.`), h("ul", {}, found.findings.map((text) => h("li", {}, text)))], "bad");
}

async function remove(one) {
  if ((await ask(`Delete backup ${one.name}?`, h("p", { class: "row" }, `Its ${bytes(one.bytes)} are removed from the disk.`), [["delete", "Delete"], ["", "Keep"]])) !== "delete") return;
  await call("DELETE", `/api/backups/${idOf(one)}`);
  emit("stale");
}

// ---------------------------------------------------------------- the list

function card(one) {
  const of = one.session_id ? `session ${state.sessions.find((other) => other.id === one.session_id)?.name ?? "that is deleted"}` : one.database;
  const at = one.position && [`, at ${one.position.exact ? "" : "about "}`, h("code", {}, one.position.at.lsn)];
  const whole = one.state === "complete";
  const work = (text, words, action) => small(text, (event) => act(event.target, words, () => action(one)), `${text} backup ${one.name}`);
  const buttons = [whole && work("Restore…", "Restoring…", restore), whole && work("Verify", "Verifying…", prove), one.state !== "running" && work("Delete", "…", remove)];
  return h("li", {}, h("b", {}, one.name), " ", STATES[one.state] ? h("span", { class: "badge" }, STATES[one.state]) : "",
    h("p", {}, `${whole ? `${bytes(one.bytes)} of ` : "of "}${of}, ${time(one.created_at)}`, at ?? ""),
    one.error ? h("p", { class: "DELETE" }, one.error) : "", h("div", { class: "row" }, buttons));
}

let drawn;
function draw() {
  const now = JSON.stringify([state.backups, String(state.backups), state.sessions.map((one) => one.name)]);
  if (now === drawn) return;
  drawn = now;
  if (!Array.isArray(state.backups)) return $("backup-list").replaceChildren(h("li", { class: "DELETE" }, state.backups.message));
  $("backup-list").replaceChildren(...state.backups.map(card).reverse());
}

async function create(form) {
  const of = $("backup-of").value ? { session_id: session()?.id } : { database: database()?.database };
  const made = await call("POST", "/api/backups", { name: $("backup-name").value.trim() || undefined, ...of });
  notice(`Backup ${made.name} is whole: ${bytes(made.bytes)} in ${span(made.elapsed_ms)}.`);
  form.reset();
  emit("stale");
}

export function start() {
  $("create-backup").addEventListener("submit", (event) => {
    event.preventDefault();
    act(event.submitter, "Dumping…", () => create(event.target));
  });
  on("backups", draw);
}
