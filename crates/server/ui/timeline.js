// The timeline: what happened when, where the replica is, the checkpoints, and the cursor. Dragging in the
// histogram zooms, dragging the thumb scrubs; the list and the inspector go along.

import { get } from "./api.js";
import { $, button, clock, counted, failed, h, inWords, KINDS, number, svg, time, total } from "./dom.js";
import { known, transaction } from "./log.js";
import { checkpoints, databaseName, emit, isBeginning, on, place, select, state } from "./store.js";

const BUCKETS = 160;
let shown = null;
let fetching = false;
let again = false;

const bars = svg("svg", { preserveAspectRatio: "none", role: "img", "aria-label": "Changes over the course of the log" });
const over = h("div");
const ticks = h("div", { class: "ticks", "aria-hidden": "true" });
const thumb = h("div", { class: "thumb", hidden: true });
const slider = h("div", { class: "slider", role: "slider", tabindex: 0, "aria-label": "Selected transaction", "aria-valuemin": 0 }, thumb);

// ---------------------------------------------------------------- places

/** From 0 to 1, where a position is on the axis; beyond it where it is outside. */
function across(ordinal) {
  const { buckets, until, since } = shown;
  if (!buckets.length || ordinal <= since.transaction) return ordinal < since.transaction ? -1 : 0;
  if (ordinal >= until.transaction) return ordinal > until.transaction ? 2 : 1;
  let low = 0;
  let high = buckets.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (buckets[middle].since.transaction <= ordinal) low = middle;
    else high = middle - 1;
  }
  const { since: start, transactions } = buckets[low];
  return (low + (transactions ? (ordinal - start.transaction) / transactions : 0)) / buckets.length;
}

/** The position at a place of the axis, as an ordinal. */
function ordinalAt(fraction) {
  const { buckets, until } = shown;
  if (!buckets.length) return 0;
  const place = Math.max(0, Math.min(fraction, 1)) * buckets.length;
  const bucket = buckets[Math.min(Math.floor(place), buckets.length - 1)];
  const inside = Math.min(place - Math.floor(place), 1);
  return fraction >= 1 ? until.transaction : Math.round(bucket.since.transaction + inside * bucket.transactions);
}

const fractionOf = (event) => {
  const box = bars.getBoundingClientRect();
  return (event.clientX - box.left) / box.width;
};
const percent = (fraction) => `${(fraction * 100).toFixed(3)}%`;

// ---------------------------------------------------------------- drawing

function column(bucket, index, highest) {
  const all = total(bucket.counts);
  if (!all) return null;
  // The square root, so that small buckets beside a huge one stay in sight.
  const height = Math.max(2, Math.sqrt(all / highest) * 100);
  let y = 100;
  const parts = KINDS.filter(([key]) => bucket.counts[key]).map(([key, name]) => {
    const part = (height * bucket.counts[key]) / all;
    y -= part;
    return svg("rect", { class: name, x: index + 0.07, width: 0.86, y: y.toFixed(2), height: part.toFixed(2) });
  });
  const title = `${time(bucket.time)}, ${counted(bucket.transactions, "transaction", "transactions")}: ${inWords(bucket.counts)}`;
  return svg("g", {}, svg("title", {}, title), parts);
}

function drawBars() {
  const { buckets } = shown;
  const highest = Math.max(1, ...buckets.map((bucket) => total(bucket.counts)));
  bars.setAttribute("viewBox", `0 0 ${Math.max(1, buckets.length)} 100`);
  bars.replaceChildren(...buckets.map((bucket, index) => column(bucket, index, highest)).filter(Boolean));
  const days = buckets.length && new Date(buckets[0].time).toDateString() !== new Date(shown.until_time).toDateString();
  const label = (text) => (days ? time(text) : clock(text, 0));
  const marks = [0, 0.2, 0.4, 0.6, 0.8].map((at) => [at, buckets[Math.floor(at * buckets.length)]?.time]);
  if (buckets.length >= 10) ticks.replaceChildren(...[...marks, [1, shown.until_time]].map(([at, text]) => tick(at, label(text))));
  else ticks.replaceChildren();
  $("range").textContent = buckets.length
    ? `${counted(shown.until.transaction - shown.since.transaction, "transaction", "transactions")}, ${time(buckets[0].time)} to ${label(shown.until_time)}`
    : "";
  $("whole").hidden = !state.zoom;
}

function tick(at, text) {
  const made = h("span", {}, text);
  made.style.left = percent(at);
  return made;
}

function put(made, fraction) {
  made.style.left = percent(fraction);
  return made;
}

function flags() {
  let free = 0;
  const width = bars.clientWidth || 1000;
  const inside = checkpoints().map((one) => [one, across(one.transaction)]).filter(([, at]) => at >= 0 && at <= 1);
  return inside.flatMap(([one, at], index) => {
    const next = inside[index + 1]?.[1] ?? 1.01;
    const wide = at * width >= free && (next - at) * width > 34 && (1 - at) * width > 40;
    const flag = button(one.name, () => select(one.transaction - 1, { from: "timeline", push: true, again: true }),
      { class: `flag${one.kind === "manual" ? "" : " fixed"}${wide ? "" : " bare"}`, title: `${one.name}, at ${one.lsn}, before transaction ${number(one.transaction)}`, "aria-label": `Checkpoint ${one.name}` });
    if (wide) flag.style.maxWidth = `${Math.min(176, (Math.min(next, 1) - at) * width - 3)}px`;
    if (wide) free = at * width + 12;
    return [put(flag, at), put(h("div", { class: "pole" }), at)];
  });
}

function marker(name, ordinal) {
  const at = ordinal === null ? -1 : across(ordinal);
  if (at < 0 || at > 1) return null;
  return put(h("div", { class: `marker${at > 0.9 ? " flip" : ""}`, "data-name": name }), at);
}

function drawOver() {
  if (!shown) return;
  const here = place();
  const veil = h("div", { class: "veil" });
  if (here !== null && across(here) <= 1) veil.style.left = percent(Math.max(0, across(here)));
  else veil.hidden = true;
  const replica = marker(here === state.head ? "replica, at head" : "replica", here);
  const head = here === state.head ? null : marker("head", state.head);
  over.replaceChildren(...[veil, ...flags(), replica, head].filter(Boolean));
  drawThumb();
}

function drawThumb() {
  if (!shown) return;
  const at = state.selected === null ? -1 : across(state.selected + 1);
  thumb.hidden = at < 0 || at > 1;
  thumb.style.left = percent(Math.max(0, Math.min(1, at)));
  slider.setAttribute("aria-valuemax", state.head);
  slider.setAttribute("aria-valuenow", (state.selected ?? -1) + 1);
  const chosen = state.selected === null ? undefined : known(state.selected);
  const text = state.selected === null ? "nothing selected" : isBeginning(state.selected) ? "the beginning"
    : `transaction ${number(state.selected)} of ${number(state.head)}${chosen ? `, ${time(chosen.commit_time)}, ${inWords(chosen.counts)}` : ""}`;
  slider.setAttribute("aria-valuetext", text);
}

// ---------------------------------------------------------------- data

export async function refresh() {
  if (fetching) return void (again = true);
  fetching = true;
  again = false;
  try {
    shown = await get("/api/histogram", { buckets: BUCKETS, by: state.axis, ...state.zoom, database: databaseName() });
    drawBars();
    drawOver();
  } catch (error) {
    if (state.zoom) { state.zoom = null; again = true; }
    if (error.code !== "precondition") failed(error);
  }
  fetching = false;
  if (again) refresh();
}

let due = null;
function grown() {
  // A zoomed timeline shows what it shows; the markers move.
  if (state.zoom) return drawOver();
  due ??= setTimeout(() => { due = null; refresh(); }, 500);
}

async function zoom(from, to) {
  const [first, last] = [Math.min(from, to), Math.max(from, to)];
  if (last - first < 2) return;
  const lsn = async (ordinal) => (ordinal >= 1 ? (await transaction(ordinal - 1))?.position.lsn : shown.since.lsn);
  try {
    state.zoom = { since: await lsn(first), until: await lsn(last) };
    emit("zoom", { last });
    await refresh();
  } catch (error) {
    failed(error);
  }
}

// ---------------------------------------------------------------- pointer and keys

function drag(target, { moved, done }) {
  target.addEventListener("pointerdown", (event) => {
    if (event.button || !shown || event.target.closest(".flag")) return;
    const from = fractionOf(event);
    target.setPointerCapture(event.pointerId);
    moved(from, from);
    const move = (at) => moved(from, fractionOf(at));
    target.addEventListener("pointermove", move);
    target.addEventListener("pointerup", (at) => {
      target.removeEventListener("pointermove", move);
      done(from, fractionOf(at));
    }, { once: true });
  });
}

function brush(from, to) {
  over.querySelector(".brush")?.remove();
  if (Math.abs(to - from) < 0.005) return;
  const made = put(h("div", { class: "brush" }), Math.max(0, Math.min(from, to)));
  made.style.width = percent(Math.min(1, Math.max(from, to)) - Math.max(0, Math.min(from, to)));
  over.append(made);
}

export function whole() {
  state.zoom = null;
  emit("zoom");
  return refresh();
}

export function start() {
  $("track").append(bars, over, ticks, slider);
  drag(bars, {
    moved: brush,
    done(from, to) {
      brush(0, 0);
      if (Math.abs(to - from) < 0.005) select(ordinalAt(to) - (to >= 1 ? 1 : 0), { from: "timeline", push: true });
      else zoom(ordinalAt(from), ordinalAt(to));
    },
  });
  const scrub = (_, to) => select(ordinalAt(to) - 1, { from: "timeline" });
  drag(slider, { moved: scrub, done: scrub });
  slider.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.round(state.head / 20));
    const steps = { ArrowUp: 1, ArrowDown: -1, PageUp: page, PageDown: -page, Home: -Infinity, End: Infinity };
    if (!(event.key in steps)) return;
    event.preventDefault();
    select((state.selected ?? state.head) + steps[event.key], { from: "timeline" });
  });
  bars.addEventListener("dblclick", whole);
  $("whole").addEventListener("click", whole);
  $("axis").addEventListener("change", (event) => { state.axis = event.target.value; emit("zoom"); refresh(); });
  new ResizeObserver(drawOver).observe(bars);
  on("place checkpoints session", drawOver);
  on("selected", drawThumb);
  on("head", grown);
  on("database", () => { state.zoom = null; refresh(); });
  on("ready", () => { $("axis").value = state.axis; refresh(); });
}
