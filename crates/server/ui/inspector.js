// What a transaction did: its changes, before and after, and the ways to go there.

import { get } from "./api.js";
import { $, act, ask, button, counted, failed, h, notice, number, precise, SIGNS, tally } from "./dom.js";
import { entries, transaction } from "./log.js";
import * as moves from "./moves.js";
import { isBeginning, on, place, select, session, state } from "./store.js";
import { inverse, statement } from "./sql.js";

/** Changes that are put on the page at a time. */
let all = false;
let showing = 0;
let cancel = new AbortController();

function value(of) {
  if (of === null) return h("span", { class: "null" }, "NULL");
  if (typeof of === "object" && of.unchanged) return h("span", { class: "null", title: "Stored apart, and not changed, so the server did not send it" }, "unchanged");
  if (of === "") return h("span", { class: "null" }, "'' (empty)");
  return typeof of === "object" ? JSON.stringify(of) : String(of);
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b) || b?.unchanged;

function cells(entry) {
  const after = entry.data ?? {};
  if (entry.operation === "UPDATE" && entry.old_data) {
    const names = Object.keys(after).filter((name) => all || !same(entry.old_data[name], after[name]));
    if (!names.length) return h("p", { class: "empty" }, "No column changed.");
    const row = (name) => {
      const was = name in entry.old_data ? value(entry.old_data[name]) : h("span", { class: "null" }, "not sent");
      const changed = !same(entry.old_data[name], after[name]);
      return h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: changed ? "was" : "" }, was), h("td", { class: changed ? "is" : "" }, value(after[name])));
    };
    return h("table", {}, h("thead", {}, h("tr", {}, ["Column", "Before", "After"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, names.map(row)));
  }
  const title = entry.operation === "DELETE" ? "Before" : "After";
  const row = ([name, of]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value(of)));
  return h("table", {}, h("thead", {}, h("tr", {}, ["Column", title].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, Object.entries(after).map(row)));
}

function change(entry) {
  const [name, of] = Object.entries(entry.data ?? {})[0] ?? [];
  const about = ["INSERT", "UPDATE", "DELETE"].includes(entry.operation) && name ? h("span", { class: "soft" }, `${name} `, value(of)) : "";
  const table = [entry.schema, entry.table].filter(Boolean).join(".");
  const body = entry.sql ? h("pre", {}, entry.sql)
    : entry.operation === "TRUNCATE" ? h("p", { class: "empty" }, "All rows of the tables were removed.")
    : entry.operation === "MESSAGE" ? h("pre", {}, JSON.stringify(entry.data, null, 2)) : cells(entry);
  return h("article", { class: "change" },
    h("h3", {}, h("span", { class: entry.operation }, `${SIGNS[entry.operation] ?? "?"} ${entry.operation}`), table, about,
      h("span", { class: "push" }), h("span", { class: "soft" }, `entry ${number(entry.index)}`)), body);
}

// ---------------------------------------------------------------- a transaction

function facts(of) {
  const rows = [["Committed", precise(of.commit_time)], ["Changes", tally(of.counts)], ["Tables", of.tables.join(", ") || "none"],
    ["xid", of.xid ? number(of.xid).replace(/\D/g, "") : "outside a transaction"], ["LSN", h("code", {}, `${of.commit_lsn} … ${of.position.lsn}`)]];
  return h("dl", { class: "facts" }, rows.flatMap(([name, is]) => [h("dt", {}, name), h("dd", { class: name === "Changes" ? "counts" : "" }, is)]));
}

/** The ways to go there, drawn anew where the replica goes; the changes below stay as they are read. */
const tools = h("div");
let drawTools = () => {};

function toolsOf(expression, title) {
  drawTools = () => tools.replaceChildren(...made(expression, title));
  drawTools();
  return tools;
}

function made(expression, title) {
  const plan = h("p", { class: "plan", role: "status" }, "…");
  const here = (state.selected ?? -2) + 1 === place();
  const go = button(["Go here ", h("kbd", {}, "Enter")], (event) => act(event.currentTarget, "Going…", () => moves.go(expression)), { class: "primary", id: "go", disabled: here });
  const checkpoint = button("Checkpoint here", () => moves.checkpointAt(expression, title));
  const compare = button(["Compare with the replica ", h("kbd", {}, "d")], () => compareWith("@", expression));
  const link = button("Copy link", () => copied(location.href, "The link"));
  moves.plan(expression, cancel.signal).then((text) => (plan.textContent = text)).catch((error) => error.name !== "AbortError" && (plan.textContent = error.message));
  return [h("div", { class: "row" }, go, compare, checkpoint, link), plan];
}

async function show() {
  const mine = ++showing;
  cancel.abort();
  cancel = new AbortController();
  const box = $("inspector");
  if (state.selected === null) return void box.replaceChildren(h("h2", { id: "inspector-title" }, "What it did"), h("p", { class: "empty" }, "Select a transaction to see what it changed, before and after. Looking moves nothing."));
  if (isBeginning(state.selected)) {
    return void box.replaceChildren(h("h2", { id: "inspector-title" }, "The beginning"), h("p", { class: "row" }, "Where the history begins: the database as the base image has it."), toolsOf("CREATION", "beginning"));
  }
  const of = await transaction(state.selected);
  if (mine !== showing || !of) return;
  const list = h("div");
  const toggle = h("label", {}, h("input", { type: "checkbox", checked: all, onchange: (event) => { all = event.target.checked; show().catch(failed); } }), "unchanged columns too");
  box.replaceChildren(
    h("div", { class: "bar" }, h("h2", { id: "inspector-title" }, `Transaction ${number(of.ordinal)}`), h("span", { class: "push" }),
      button("‹ earlier", () => select(state.selected - 1, { from: "inspector" }), { class: "small" }), button("later ›", () => select(state.selected + 1, { from: "inspector" }), { class: "small" })),
    toolsOf(of.position.lsn, `after ${of.xid}`), facts(of),
    of.has_gap ? h("p", { class: "state-card" }, "Something in this transaction could not be captured. Replay stops before it, or says what it leaves out.") : "",
    h("div", { class: "bar" }, h("h2", {}, "Changes"), h("span", { class: "push" }), toggle, copies(of)), list);
  box.scrollTop = 0;
  await fill(list, of, undefined, mine);
}

async function fill(list, of, cursor, mine) {
  const page = await entries(of, cursor, cancel.signal);
  if (mine !== showing) return;
  list.append(...page.entries.map(change));
  if (page.next_cursor) {
    const more = button(`${counted(page.total_count - list.children.length, "more change", "more changes")}`, (event) => {
      event.target.remove();
      fill(list, of, page.next_cursor, mine).catch(failed);
    });
    list.append(more);
  }
}

// ---------------------------------------------------------------- copies

async function everything(of) {
  const found = [];
  let cursor;
  do {
    const page = await entries(of, cursor);
    found.push(...page.entries);
    cursor = page.next_cursor;
  } while (cursor);
  return found;
}

async function copied(text, what) {
  await navigator.clipboard.writeText(text);
  notice(`${what} is in the clipboard.`, "", 4);
}

function copies(of) {
  const kinds = { SQL: (all) => all.map(statement).join("\n"), "inverse SQL": (all) => all.reverse().map(inverse).join("\n"), JSON: (all) => JSON.stringify(all, null, 2) };
  return Object.entries(kinds).map(([name, text]) =>
    button(`Copy ${name}`, (event) => act(event.target, "Copying…", async () => copied(text(await everything(of)), name)), { class: "small" }));
}

// ---------------------------------------------------------------- comparing

/** Shows the net difference between two positions. */
export async function compareWith(from, to) {
  const session_id = session()?.id;
  const answer = await get("/api/diff", { from, to, limit: 200, session_id }).catch(failed);
  if (!answer?.tables) return;
  const sum = (one) => h("span", { class: "counts" }, tally({ inserts: one.inserted, updates: one.updated, deletes: one.deleted, truncates: Number(one.truncated), ddl: 0, messages: 0 }));
  const rows = (one) => one.rows.map((row) => change({ operation: row.change.toUpperCase(), schema: "", table: "", index: "", data: row.after ?? row.before, old_data: row.before })).map((made) => {
    made.querySelector("h3 > .soft:last-child")?.remove();
    return made;
  });
  const content = answer.tables.map((one) => h("details", { open: answer.tables.length < 3 }, h("summary", {}, h("b", {}, `${one.table} `), sum(one)), rows(one)));
  const nothing = !answer.tables.length && !answer.schema_changes.length;
  ask("Net difference", [
    h("p", { class: "soft" }, `From ${answer.from.lsn} (transaction ${number(answer.from.transaction)}) to ${answer.to.lsn} (transaction ${number(answer.to.transaction)})`),
    nothing ? h("p", { class: "row" }, "There is none: the two are equal.") : "",
    answer.schema_changes.length ? h("div", {}, h("h3", {}, "Schema changes between"), answer.schema_changes.map((sql) => h("pre", {}, sql))) : "",
    ...content, answer.truncated ? h("p", {}, "Not all rows are shown; the counts are whole. The command diff shows up to 1,000.") : ""]);
}

export function start() {
  on("selected ready", () => show().catch(failed));
  let drawn;
  on("place session", () => {
    const now = JSON.stringify([session()?.id, session()?.position?.lsn, session()?.state]);
    if (now !== drawn && tools.isConnected) drawTools();
    drawn = now;
  });
}
