// Where replay could not go on, what can be done about it, and what the session leaves out since.

import { call } from "./api.js";
import { act, ask, button, h, notice, number } from "./dom.js";
import { emit, select, session } from "./store.js";

const card = (title, content, kind) => h("div", { class: `state-card ${kind}` }, h("h2", {}, title), content);

/** Leaves out what the session stopped at, after saying so. */
async function skip(stop) {
  const choice = stop.choices.find((one) => one.choice === "skip");
  if ((await ask("Leave it out?", h("p", { class: "row" }, choice.does), [["skip", "Leave it out"], ["", "Stay"]])) !== "skip") return;
  const made = await call("POST", "/api/decisions", { session_id: session().id });
  notice(`Left out: ${made.what}. Go on with a move.`);
  emit("stale");
}

async function undecide(one) {
  await call("DELETE", `/api/decisions/${one.id}`);
  emit("stale");
}

function stopped(stop) {
  const what = [stop.operation, stop.table].filter(Boolean).join(" ");
  const choices = stop.choices.map((one) => h("li", {}, one.does, one.command ? [" ", h("code", {}, one.command)] : ""));
  const look = button("Look at it", () => select(stop.position.transaction, { from: "stop", push: true, again: true }), { class: "small" });
  const leave = stop.choices.some((one) => one.choice === "skip") ? button("Leave it out…", (event) => act(event.target, "…", () => skip(stop)), { class: "small" }) : null;
  return card(`Replay stopped before transaction ${number(stop.position.transaction)}${what ? `: ${what}` : ""}`, [
    h("p", {}, stop.reason), stop.statement ? h("pre", {}, stop.statement) : "",
    choices.length ? [h("p", {}, "What can be done:"), h("ul", {}, choices)] : "", h("p", { class: "row" }, look, leave)].flat(), "bad");
}

function leftOut(decisions) {
  const lines = decisions.map((one) => h("li", {}, one.what, one.rebuilds ? " (the next move makes the database anew) " : " ",
    button("Take back", (event) => act(event.target, "…", () => undecide(one)), { class: "small", "aria-label": `Take back: ${one.what}` })));
  return card("This session leaves something out, as was decided", h("ul", {}, lines), "");
}

/** Cards about the session that is shown. */
export function cards() {
  const shown = session();
  const found = [];
  if (shown?.stop) found.push(stopped(shown.stop));
  if (shown?.decisions?.length) found.push(leftOut(shown.decisions));
  if (shown?.differs?.length) found.push(card("Its database differs from the primary here", h("ul", {}, shown.differs.map((text) => h("li", {}, text))), ""));
  return found;
}
