// Small parts of the page. What comes from the database is put on it as text, never as markup.

export const $ = (id) => document.getElementById(id);

export const KINDS = [
  ["inserts", "INSERT", "+", "insert"], ["updates", "UPDATE", "~", "update"], ["deletes", "DELETE", "−", "delete"],
  ["truncates", "TRUNCATE", "∅", "truncate"], ["ddl", "DDL", "◆", "schema change"], ["messages", "MESSAGE", "✉", "message"],
];
export const SIGNS = Object.fromEntries(KINDS.map(([, name, sign]) => [name, sign]));

const SVG = "http://www.w3.org/2000/svg";

function fill(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false && value !== undefined && value !== null) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(4).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export const h = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
export const svg = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);
export const button = (text, onclick, more = {}) => h("button", { type: "button", onclick, ...more }, text);

export const number = (value) => Number(value).toLocaleString();
export const counted = (value, one, many) => `${number(value)} ${Number(value) === 1 ? one : many}`;
export const total = (counts) => KINDS.reduce((sum, [key]) => sum + counts[key], 0);
export const time = (text) => new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
export const precise = (text) => `${new Date(text).toLocaleDateString()} ${clock(text, 6)}`;

/** The time of day with so many digits of the second's fraction, in the reader's time zone. */
export function clock(text, digits = 3) {
  const fraction = (text.match(/\.(\d+)/)?.[1] ?? "").padEnd(digits, "0").slice(0, digits);
  const at = new Date(text);
  const two = (value) => String(value).padStart(2, "0");
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}${digits ? `.${fraction}` : ""}`;
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${value.toFixed(unit && value < 10 ? 1 : 0)} ${units[unit]}`;
}

export function span(milliseconds) {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** What is written and not captured yet, in bytes and, where the server measured it, in time. */
export function lag({ lag_bytes: behind, lag_ms: waited }) {
  if (behind === null || behind === undefined) return "?";
  return `${bytes(behind)}${waited === null || waited === undefined ? "" : `, ${waited ? span(waited) : "0 s"}`}`;
}

/** `+3 ~1` with signs, colours and words for those who do not see them. */
export function tally(counts) {
  return KINDS.filter(([key]) => counts[key]).map(([key, name, sign, word]) =>
    h("span", { class: name, title: `${counted(counts[key], word, `${word}s`)}` }, `${sign}${number(counts[key])}`));
}

export const inWords = (counts) =>
  KINDS.filter(([key]) => counts[key]).map(([key, , , word]) => counted(counts[key], word, `${word}s`)).join(", ");

export function notice(content, kind = "", seconds = 10) {
  // One piece of news at a time; what went wrong, or what a move left out, stays until it is dismissed.
  if (!kind) $("notices").querySelectorAll(".notice.news").forEach((one) => one.remove());
  const box = h("div", { class: `notice ${kind || "news"}` }, h("div", {}, content));
  box.append(h("p", { class: "row" }, button("Dismiss", () => box.remove(), { class: "small" })));
  $("notices").append(box);
  if (kind !== "bad" && seconds) setTimeout(() => box.remove(), seconds * 1000);
  return box;
}

export const failed = (error) => error.name !== "AbortError" && notice(error.message, "bad");

const atWork = new Map();

/** Runs what a button, or its key, asks for; the button says that it is at work, and errors are shown. */
export async function act(pressed, words, action) {
  // A key may ask again while the button is at work; it is as before when the last is done.
  const work = atWork.get(pressed) ?? { label: [...pressed.childNodes], count: 0, keyboard: pressed.matches(":focus-visible") };
  atWork.set(pressed, work);
  work.count += 1;
  pressed.disabled = true;
  pressed.replaceChildren(words);
  try {
    return await action();
  } catch (error) {
    failed(error);
  } finally {
    work.count -= 1;
    if (!work.count) {
      atWork.delete(pressed);
      pressed.disabled = false;
      pressed.replaceChildren(...work.label);
      if (work.keyboard && document.activeElement === document.body) pressed.focus();
    }
  }
}

let last = Promise.resolve();

/** Shows a dialog, after the one that is open; resolves to the value of the button that closed it, empty where it was left. */
export const ask = (...how) => (last = last.then(() => show(...how)));

function show(title, content, buttons = [["close", "Close"]]) {
  const dialog = $("dialog");
  const close = ([value, text], index) => button(text, () => dialog.close(value), index === 0 ? { class: "primary", autofocus: true } : {});
  dialog.replaceChildren(h("h2", { id: "dialog-title" }, title), h("div", { class: "content" }, content),
    h("p", { class: "row" }, buttons.map(close)));
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue), { once: true }));
}
