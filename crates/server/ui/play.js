// Play: the replica goes through the history transaction by transaction, with the pauses that were between them.

import { call } from "./api.js";
import { $, button, counted, failed, h, notice, number, span } from "./dom.js";
import { transaction } from "./log.js";
import * as moves from "./moves.js";
import { emit, on, place, select, session, state } from "./store.js";

/** Nobody waits longer for the next transaction, at whatever speed; what is left out is said. */
const LONGEST_PAUSE = 10_000;

let playing = null;
const said = h("p", { role: "status", class: "soft" });
const toggle = button("▶ Play", () => (playing ? pause() : play()), { id: "play", title: "Space" });
const speed = h("select", { id: "speed", "aria-label": "Speed of play" }, [["1", "1×"], ["10", "10×"], ["0", "fast"]].map(([value, text]) => h("option", { value }, text)));

/** Waits, but no longer than until play is paused. */
const wait = (run, milliseconds) => new Promise((done) => {
  run.wake = done;
  setTimeout(done, milliseconds);
});

/** How long it was between the transaction that the replica is at and the next one, at the chosen speed. */
async function gap(at) {
  const factor = Number($("speed").value);
  if (!factor || at === 0) return 0;
  const [before, next] = [await transaction(at - 1), await transaction(at)];
  return Math.max(0, new Date(next.commit_time) - new Date(before.commit_time)) / factor;
}

async function play() {
  if (place() === null || playing) return;
  if (place() >= state.head) return void notice("The replica is at head; there is nothing to play. Go to an earlier position first.", "", 5);
  const run = { from: session().position, id: session().id, at: place(), count: 0 };
  playing = run;
  draw();
  try {
    while (playing === run && run.at < state.head) await next(run);
  } catch (error) {
    failed(error);
  }
  if (playing === run) playing = null;
  over(run);
}

async function next(run) {
  const milliseconds = await gap(run.at);
  if (milliseconds > 300) said.textContent = `next in ${span(Math.min(milliseconds, LONGEST_PAUSE))}${milliseconds > LONGEST_PAUSE ? `, not in ${span(milliseconds)}` : ""}`;
  if (milliseconds) await wait(run, Math.min(milliseconds, LONGEST_PAUSE));
  if (playing !== run) return;
  const wanted = await transaction(run.at);
  const moved = await call("POST", "/api/navigate", { position: wanted.position.lsn, session_id: run.id, limit: 1 });
  if (moved.notices.length) notice(h("ul", {}, moved.notices.map((one) => h("li", {}, one))), "warn");
  run.at = moved.to.transaction;
  run.count += 1;
  said.textContent = `transaction ${number(run.at - 1)}`;
  if (state.session === run.id) select(run.at - 1, { from: "play" });
}

function pause() {
  const run = playing;
  playing = null;
  run?.wake?.();
}

function over(run) {
  said.textContent = "";
  draw();
  emit("stale");
  if (!run.count) return;
  const back = button("Back to where it began", () => { box.remove(); moves.go(run.from.lsn).catch(failed); }, { class: "small" });
  const box = notice(h("p", {}, `Played ${counted(run.count, "transaction", "transactions")}.`));
  box.lastChild.prepend(back);
}

function draw() {
  toggle.textContent = playing ? "❚❚ Pause" : "▶ Play";
  toggle.disabled = !playing && place() === null;
}

export const press = () => toggle.click();

export function start() {
  $("player").append(button("‹ Step", (event) => step(event.target, "@-1"), { title: "Shift+←" }), toggle, button("Step ›", (event) => step(event.target, "@+1"), { title: "Shift+→" }), speed, said);
  on("place session", draw);
  // Whoever moves the replica by hand wants it to stay there.
  on("turn", pause);
  on("session database", () => playing && playing.id !== state.session && pause());
}

async function step(pressed, position) {
  pressed.disabled = true;
  await moves.go(position).catch(failed);
  pressed.disabled = false;
}
