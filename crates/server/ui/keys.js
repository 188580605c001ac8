// The keys. They are the page's as long as no field is being written in.

import { $, act, ask, failed, h, notice } from "./dom.js";
import { compareWith } from "./inspector.js";
import { step as inList } from "./list.js";
import * as moves from "./moves.js";
import * as play from "./play.js";
import { checkpoints, isBeginning, select, state } from "./store.js";
import { transaction } from "./log.js";
import { whole } from "./timeline.js";

const HELP = [["j  k", "the next older, the next newer transaction"], ["J  K", "the checkpoint before, the checkpoint after"], ["←  →", "one transaction back, forward in time"],
  ["Enter", "take the replica to the selected transaction"], ["Shift ←  →", "take the replica one transaction back, forward"], ["Space", "play from where the replica is; pause"], ["u  r", "undo, redo the last move"], ["c", "create a checkpoint now"], ["d", "compare the replica with the selected transaction"],
  ["/", "look for a text; the other filters are beside it"], ["g h", "select the newest transaction"], ["z", "the whole history in the timeline"], ["Esc", "leave a dialog or a field; select nothing"], ["?", "this list"]];

let before = "";

/** The position that is selected, as an expression; null where none is. */
async function selected() {
  const ordinal = state.selected;
  if (ordinal === null) return notice("Select a transaction first: j and k, or a click.", "", 4) && null;
  return isBeginning(ordinal) ? "CREATION" : (await transaction(ordinal)).position.lsn;
}

function checkpoint(by) {
  const at = (state.selected ?? state.head - 1) + 1;
  const sorted = checkpoints().map((one) => one.transaction).sort((a, b) => a - b);
  const found = by > 0 ? sorted.find((one) => one > at) : sorted.findLast((one) => one < at);
  if (found !== undefined) select(found - 1, { from: "keys" });
}

function inTime(by) {
  select(state.selected === null ? state.head - 1 : state.selected + by, { from: "keys" });
}

/** What the button would do; one that is at work, or is being drawn anew, loses no key. */
async function go() {
  const where = selected();
  const move = async () => (await where) && moves.go(await where);
  const pressed = $("go");
  await (pressed ? act(pressed, "Going…", move) : move());
}

const step = (direction) => act($(direction), "Going…", () => moves.step(direction));

async function compare() {
  const position = await selected();
  if (position) await compareWith("@", position);
}

export const help = () => ask("Keys", [h("table", {}, h("tbody", {}, HELP.map(([key, text]) => h("tr", {}, h("th", { scope: "row", class: "mono" }, key), h("td", {}, text))))), h("p", { class: "row" }, h("a", { href: "/ui/reference.html" }, "Everything here is an API call: its description"))]);

const KEYS = {
  j: () => inList(1), k: () => inList(-1), J: () => checkpoint(-1), K: () => checkpoint(1),
  ArrowLeft: () => inTime(-1), ArrowRight: () => inTime(1), Enter: go,
  "Shift+ArrowLeft": () => moves.go("@-1"), "Shift+ArrowRight": () => moves.go("@+1"),
  u: () => step("undo"), r: () => step("redo"), c: () => moves.checkpointAt(null), d: compare,
  "/": () => $("text").focus(), "g h": () => select(state.head - 1, { from: "keys" }), z: whole, " ": play.press, "?": help, Escape: () => select(null),
};

function pressed(event) {
  // A dialog that was closed keeps the focus until the next frame; what is typed then is the page's.
  const target = event.target.closest("dialog:not([open])") ? document.body : event.target;
  // Who took the key may have closed its dialog with it.
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (target.matches("input, select, textarea")) return void (event.key === "Escape" && target.blur());
  // A button or a link in focus keeps Enter for itself.
  if ((event.key === "Enter" || event.key === " ") && target.closest("button, a, summary")) return;
  const shift = event.shiftKey && event.key.startsWith("Arrow") ? "Shift+" : "";
  const pair = `${before} ${event.key}`;
  before = event.key;
  const action = KEYS[pair] ?? KEYS[shift + event.key];
  if (!action) return;
  event.preventDefault();
  Promise.resolve(action()).catch(failed);
}

export function start() {
  document.addEventListener("keydown", pressed);
  $("help").addEventListener("click", help);
}
