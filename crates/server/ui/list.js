// The list of transactions, newest first. Only the rows in sight are on the page, so a million of them scroll;
// a list higher than a browser can hold is scrolled in proportion, and the wheel by rows.

import { $, button, clock, counted, failed, h, inWords, number, tally, time } from "./dom.js";
import { filtered, forget, known, load, pageOf } from "./log.js";
import { begins, checkpoints, emit, isBeginning, on, place, select, state } from "./store.js";

const ROW = 28;
const HIGHEST = 6_000_000;

/** Transactions when the list was last brought up to date; what came since is said, and does not move it. */
let shown = 0;
/** The filtered list, and what fetches more of it; null without a filter. */
let found = null;
let rows = [];
/** The first row in sight, with its fraction. */
let top = 0;
/** Where the list scrolled itself to; that is not the reader's doing. */
let own = 0;

const sizer = h("div", { class: "sizer", role: "rowgroup" });
const viewport = h("div", { class: "viewport", role: "grid", tabindex: 0, "aria-label": "Transactions, newest first" }, sizer);
const grid = h("div", { class: "grid" }, viewport);
const fresh = button("", () => { catchUp(); go(0); }, { id: "fresh", hidden: true });
const looked = h("p", { class: "soft looked", role: "status", hidden: true });
const empty = h("p", { class: "empty", hidden: true });

const length = () => (found ? found.transactions.length : Math.max(0, shown - begins()));
const at = (row) => (found ? found.transactions[row] : known(shown - 1 - row));
const rowOf = (ordinal) => (found ? found.transactions.findIndex((one) => one.ordinal <= ordinal) : shown - 1 - ordinal);
const inSight = () => viewport.clientHeight / ROW;

function head() {
  const names = ["Number", "Time", "xid", "Changes", "Tables", "LSN"];
  return h("div", { class: "columns", "aria-hidden": "true" }, names.map((name) => h("span", {}, name)));
}

// ---------------------------------------------------------------- scrolling

function resize() {
  sizer.style.height = `${Math.min(length() * ROW, HIGHEST)}px`;
  viewport.setAttribute("aria-rowcount", found?.next ? -1 : length());
}

const dense = () => length() * ROW <= HIGHEST;

/** Scrolls so that a row is the first one. */
function go(row) {
  const last = Math.max(0, length() - inSight());
  top = Math.max(0, Math.min(row, last));
  viewport.scrollTop = dense() ? top * ROW : (last ? (top / last) * (HIGHEST - viewport.clientHeight) : 0);
  own = viewport.scrollTop;
  draw();
}

/** Scrolls no further than is needed; to the middle where it is far. */
function reveal(row) {
  const far = row < top - 5 || row > top + inSight() + 5;
  if (far) go(row - inSight() / 2);
  else if (row < top + 1) go(row - 1);
  else if (row > top + inSight() - 2) go(row - inSight() + 2);
}

viewport.addEventListener("scroll", () => {
  if (Math.abs(viewport.scrollTop - own) < 1) return;
  own = -1;
  const last = Math.max(0, length() - inSight());
  top = dense() ? viewport.scrollTop / ROW : (viewport.scrollTop / (HIGHEST - viewport.clientHeight)) * last;
  requestAnimationFrame(draw);
}, { passive: true });

viewport.addEventListener("wheel", (event) => {
  if (dense() || event.ctrlKey) return;
  event.preventDefault();
  go(top + (event.deltaMode ? event.deltaY : event.deltaY / ROW));
}, { passive: false });

// ---------------------------------------------------------------- rows

function names(transaction) {
  const text = transaction.tables.map((table) => table.replace(/^public\./, "")).join(", ");
  const flags = checkpoints().filter((one) => one.transaction === transaction.ordinal + 1).map((one) => `⚑ ${one.name} `);
  const replica = place() === transaction.ordinal + 1 ? [h("span", { class: "replica" }, "◀ replica ")] : [];
  const gap = transaction.has_gap ? [h("span", { class: "DELETE" }, "gap ")] : [];
  return [...replica, h("span", { class: "flagged" }, flags), ...gap, text];
}

function fill(row, index) {
  const transaction = at(index);
  row.dataset.row = index;
  row.style.transform = `translateY(${Math.round((index - top) * ROW + viewport.scrollTop)}px)`;
  row.setAttribute("aria-rowindex", index + 1);
  const cells = transaction
    ? [`${number(transaction.ordinal)}`, clock(transaction.commit_time), transaction.xid || "", tally(transaction.counts), names(transaction), transaction.position.lsn]
    : [found ? "" : number(shown - 1 - index), "…", "", "", "", ""];
  const key = `${cells[0]}|${cells[1]}|${place()}|${state.checkpoints.length}`;
  if (row.dataset.key !== key) {
    row.dataset.key = key;
    row.replaceChildren(...cells.map((cell, column) => h("div", { class: `cell${column === 3 ? " counts" : ""}${column === 5 ? " mono" : ""}`, role: "gridcell" }, cell)));
    row.title = transaction ? `xid ${transaction.xid}, ${time(transaction.commit_time)}: ${inWords(transaction.counts)}` : "";
  }
  const ordinal = transaction?.ordinal ?? shown - 1 - index;
  const chosen = ordinal === state.selected;
  row.id = `tx-${index}`;
  row.className = `tx${place() !== null && ordinal >= place() ? " ahead" : ""}${place() === ordinal + 1 ? " here" : ""}${chosen ? " chosen" : ""}`;
  row.setAttribute("aria-selected", chosen);
  if (chosen) viewport.setAttribute("aria-activedescendant", row.id);
  return Boolean(transaction);
}

function draw() {
  const first = Math.max(0, Math.floor(top) - 2);
  const last = Math.min(length(), Math.ceil(top + inSight()) + 2);
  viewport.removeAttribute("aria-activedescendant");
  while (rows.length < last - first) {
    rows.push(h("div", { role: "row" }));
    sizer.append(rows.at(-1));
  }
  rows.splice(Math.max(0, last - first)).forEach((row) => row.remove());
  const missing = new Set();
  for (let index = first; index < last; index++) {
    if (!fill(rows[index - first], index) && !found) missing.add(pageOf(shown - 1 - index));
  }
  for (const page of missing) load(page).then(draw).catch(failed);
  if (found?.next && last > length() - 20) more();
}

async function more() {
  if (found.fetching) return;
  const list = found;
  list.fetching = true;
  try {
    const page = await filtered(list.next);
    list.transactions.push(...page.transactions);
    list.next = page.next;
    list.searched += page.searched;
  } catch (error) {
    list.next = null;
    failed(error);
  }
  list.fetching = false;
  if (list === found) { resize(); said(); draw(); }
}

// ---------------------------------------------------------------- what it shows

function catchUp() {
  shown = state.head;
  fresh.hidden = true;
  const last = pageOf(shown - 1);
  if (shown && !known(shown - 1)) load(last).then(draw).catch(failed);
  resize();
  said();
  draw();
  if (found) refill().catch(failed);
}

function said() {
  // A search goes on by itself until there is enough to show, and says how far it is.
  looked.hidden = !found?.searched;
  looked.textContent = looked.hidden ? "" : `${counted(found.searched, "entry", "entries")} looked at${found.next ? ", more to come" : ", all of them"}: ${counted(found.transactions.length, "transaction", "transactions")} found`;
  if (found?.next && !length()) return void (empty.hidden = true);
  empty.hidden = length() > 0;
  empty.textContent = found ? "No transaction matches the filter. Clear it, or make it wider." : "Nothing was captured yet. Change something on the input database, and it appears here: psql \"$(postgres-test-replay dsn input)\"";
}

function grown() {
  const count = state.head - shown;
  // Who looks at the newest of a short list sees it grow.
  if (count > 0 && shown === 0) return catchUp();
  fresh.hidden = count <= 0;
  fresh.textContent = `${counted(count, "new transaction", "new transactions")}`;
}

let asked = 0;
async function refill() {
  const mine = ++asked;
  if (!Object.keys(state.filter).length) found = null;
  else {
    const page = await filtered(undefined);
    if (mine !== asked) return;
    found = page;
  }
  rows.forEach((row) => delete row.dataset.key);
  resize();
  said();
  go(0);
}

/** The neighbour of the cursor in the list: `by` is 1 for the next older one. */
export function step(by) {
  if (!length()) return;
  const row = state.selected === null ? -1 : rowOf(state.selected);
  const next = Math.max(0, Math.min(length() - 1, state.selected === null ? 0 : row + by));
  const ordinal = at(next)?.ordinal ?? shown - 1 - next;
  select(ordinal, { from: "keys" });
}

export function start() {
  $("list").append(looked, head(), grid, fresh, empty);
  sizer.addEventListener("click", (event) => {
    const row = event.target.closest(".tx");
    const transaction = row && at(Number(row.dataset.row));
    if (transaction) select(transaction.ordinal, { from: "list", push: true });
  });
  viewport.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: Math.floor(inSight()), PageUp: -Math.floor(inSight()) };
    if (event.key === "Home") select(shown - 1, { from: "keys" });
    else if (event.key === "End") select(begins(), { from: "keys" });
    else if (steps[event.key]) step(steps[event.key]);
    else return;
    event.preventDefault();
  });
  new ResizeObserver(draw).observe(viewport);
  on("selected", (how) => {
    if (state.selected !== null && state.selected >= shown) catchUp();
    if (state.selected !== null && !isBeginning(state.selected) && how.from !== "list") reveal(rowOf(state.selected));
    draw();
  });
  // The list goes along with the timeline: what is zoomed into comes into sight.
  on("zoom", (range) => range && !found && go(rowOf(range.last - 1)));
  on("head", grown);
  on("filter", () => refill().catch(failed));
  on("place checkpoints", draw);
  on("database", () => { forget(); found = null; shown = 0; catchUp(); refill().catch(failed); });
  on("ready", () => { catchUp(); emit("listed"); });
}
