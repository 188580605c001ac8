// The page: shows what the API answers, and asks it for what the user wants. No state of its own beyond the view.
// Everything that comes from the database is put on the page as text, never as markup.

const $ = (id) => document.getElementById(id);
const SIGNS = { INSERT: "+", UPDATE: "~", DELETE: "−", TRUNCATE: "∅", DDL: "◆", MESSAGE: "✉" };
const view = { status: null, checkpoints: [], sessions: [], older: null, newest: -1, fresh: 0, filter: {} };

// ---------------------------------------------------------------- API

const token = () => sessionStorage.getItem("token");

async function call(method, path, body) {
  const headers = { "Content-Type": "application/json" };
  if (token()) headers.Authorization = `Bearer ${token()}`;
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  if (response.status === 401) {
    await login();
    return call(method, path, body);
  }
  const answer = await response.json();
  if (!response.ok) throw new Error([answer.detail, answer.hint].filter(Boolean).join(". "));
  return answer;
}

let asking = null;

function login() {
  asking ??= new Promise((done) => {
    $("login").showModal();
    $("login").addEventListener("close", () => {
      sessionStorage.setItem("token", $("token").value);
      asking = null;
      done();
    }, { once: true });
  });
  return asking;
}

// ---------------------------------------------------------------- small parts

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false && value !== undefined) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function notice(text, bad = false) {
  const close = element("button", { type: "button", onclick: () => box.remove() }, "Dismiss");
  const box = element("div", { class: bad ? "notice bad" : "notice" }, element("p", {}, text), close);
  $("notices").append(box);
  if (!bad) setTimeout(() => box.remove(), 8000);
}

const number = (value) => Number(value).toLocaleString();
const counted = (value, one, many) => `${number(value)} ${Number(value) === 1 ? one : many}`;
const time = (text) => new Date(text).toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${value.toFixed(unit && value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** Runs what a button asks for; the button says that it is at work, and errors are shown. */
async function act(button, words, action) {
  const label = button.textContent;
  button.disabled = true;
  button.textContent = words;
  try {
    await action();
  } catch (error) {
    notice(error.message, true);
  } finally {
    button.disabled = false;
    button.textContent = label;
  }
}

// ---------------------------------------------------------------- status

function chip(id, server) {
  const box = $(id);
  box.className = `chip ${server.connected ? "good" : "bad"}`;
  box.querySelector("code").textContent = server.dsn;
  box.querySelector(".state").textContent = server.connected ? `connected, PostgreSQL ${server.version}` : (server.error ?? "not connected");
}

function statistics(database) {
  const log = database?.log;
  const counts = log?.counts ?? {};
  const rows = log ? [
    ["Transactions", number(log.transactions)], ["Entries", number(log.entries)],
    ["+ inserted", number(counts.inserts)], ["~ updated", number(counts.updates)], ["− deleted", number(counts.deletes)],
    ["∅ truncated", number(counts.truncates)], ["◆ schema changes", number(counts.ddl)], ["On disk", bytes(log.bytes)],
    ["Tables", number(log.tables.length)], ["Listener", database.listener.state],
  ] : [["Listener", database?.listener.state ?? "absent"]];
  $("numbers").replaceChildren(...rows.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

function place() {
  const session = view.status?.session;
  const database = view.status?.databases.find((one) => one.database === session?.database);
  if (!session) return void ($("place").textContent = "There is no session yet.");
  if (!session.position) return void ($("place").textContent = `Its database ${session.target_database} is ${session.state}.`);
  const behind = (database?.head?.transaction ?? session.position.transaction) - session.position.transaction;
  const named = view.checkpoints.filter((one) => one.transaction === session.position.transaction).map((one) => one.name);
  $("place").replaceChildren(
    `Database ${session.target_database} is at `, element("code", {}, session.position.lsn),
    `, entry ${number(session.position.entry_index)}`, named.length ? ` (${named.join(", ")})` : "",
    behind ? `, ${counted(behind, "transaction", "transactions")} before head.` : ", at head.",
    session.follow ? " It follows head." : "",
  );
}

async function refresh() {
  [view.status, view.checkpoints, view.sessions] = await Promise.all([
    call("GET", "/api/status"), call("GET", "/api/checkpoints"), call("GET", "/api/sessions"),
  ]);
  chip("input", view.status.input);
  chip("output", view.status.output);
  const active = view.status.session;
  statistics(view.status.databases.find((one) => one.database === active?.database) ?? view.status.databases[0]);
  $("session").replaceChildren(...view.sessions.map((one) => element("option", { value: one.id, selected: one.active }, one.name)));
  place();
  checkpoints(active);
  dim();
}

// ---------------------------------------------------------------- checkpoints and moves

function checkpoints(session) {
  const mine = view.checkpoints.filter((one) => !session || one.database === session.database);
  $("checkpoint-list").replaceChildren(...mine.map((one) => {
    const here = session?.position?.transaction === one.transaction;
    const fixed = one.kind !== "manual";
    const go = element("button", { type: "button", onclick: (e) => act(e.target, "Going…", () => move({ checkpoint_id: one.id })) }, "Go here");
    const remove = element("button", { type: "button", "aria-label": `Delete checkpoint ${one.name}`,
      onclick: (e) => confirm(`Delete checkpoint ${one.name}? The log keeps its history.`) && act(e.target, "Deleting…", async () => {
        await call("DELETE", `/api/checkpoints/${one.id}`);
        await refresh();
      }) }, "Delete");
    return element("li", { class: `${fixed ? "fixed" : ""} ${here ? "here" : ""}` },
      element("b", {}, one.name, here ? " — the replica is here" : ""),
      element("p", {}, one.description || (fixed ? fixedText(one.kind) : time(one.created_at))),
      element("p", {}, element("code", {}, one.lsn), ` entry ${number(one.entry_index)}`),
      element("p", { class: "row" }, go, ...(fixed ? [] : [remove])));
  }));
}

const fixedText = (kind) => kind === "creation" ? "Where capture began" : "The end of the first schema migration";

function told(moved) {
  notice(`${moved.strategy === "nothing" ? "Already there" : `Arrived by ${moved.strategy}`}: ${counted(moved.transactions, "transaction", "transactions")}, ${counted(moved.entries_applied, "entry", "entries")} applied in ${number(moved.elapsed_ms)} ms.`);
}

async function move(request) {
  told(await call("POST", "/api/navigate", request));
  await refresh();
}

// ---------------------------------------------------------------- the log

function value(of) {
  if (of === null) return element("span", { class: "null" }, "NULL");
  if (typeof of === "object" && of.unchanged) return element("span", { class: "null" }, "unchanged");
  return typeof of === "string" ? (of === "" ? "''" : of) : String(of);
}

/** The columns of a change; of an update only those that are other than before. */
function columns(entry) {
  if (entry.sql) return [entry.sql];
  const all = Object.entries(entry.data ?? {});
  const changed = entry.old_data ? all.filter(([name, now]) => JSON.stringify(now) !== JSON.stringify(entry.old_data[name])) : all;
  return (changed.length ? changed : all).flatMap(([name, now], index) => {
    const before = entry.old_data && name in entry.old_data && changed.length ? [value(entry.old_data[name]), " → "] : [];
    return [index ? ", " : "", element("b", {}, `${name} `), ...before, value(now)];
  });
}

function row(entry) {
  const operation = element("span", { class: `op ${entry.operation}` }, `${SIGNS[entry.operation] ?? "?"} ${entry.operation}`);
  const go = element("button", { type: "button", "aria-label": `Go to just after entry ${entry.index}`,
    onclick: (e) => act(e.target, "Going…", () => move({ position: entry.lsn })) }, "Go here");
  const cells = [number(entry.index), time(entry.timestamp), operation, [entry.schema, entry.table].filter(Boolean).join("."), columns(entry), element("code", {}, entry.lsn), go];
  const made = element("tr", { "data-index": entry.index }, ...cells.map((cell) => element("td", {}, ...[cell].flat())));
  made.children[4].className = "data";
  return made;
}

const query = (extra) => new URLSearchParams({ limit: 100, order: "desc", ...view.filter, ...extra });

async function newest() {
  const page = await call("GET", `/api/wal-logs?${query({})}`);
  $("entries").replaceChildren(...page.entries.map(row));
  paged(page);
  view.newest = page.entries.at(-1)?.index ?? view.newest;
  view.fresh = 0;
  $("fresh").hidden = true;
  $("empty").hidden = page.total_count > 0;
  $("scroll").scrollTop = $("scroll").scrollHeight;
  dim();
}

function paged(page) {
  view.older = page.next_cursor;
  $("older").hidden = !view.older;
}

async function older() {
  const scroll = $("scroll");
  const height = scroll.scrollHeight;
  const page = await call("GET", `/api/wal-logs?${query({ cursor: view.older })}`);
  $("entries").prepend(...page.entries.map(row));
  paged(page);
  scroll.scrollTop += scroll.scrollHeight - height;
  dim();
}

/** Entries that the replica does not have. */
function dim() {
  const at = view.status?.session?.position?.entry_index ?? Infinity;
  for (const row of $("entries").children) row.classList.toggle("ahead", Number(row.dataset.index) >= at);
}

function grown(head) {
  const count = head.entry_index - 1 - view.newest;
  if (count <= 0) return;
  if (view.newest < 0) return void newest();
  view.fresh = count;
  $("fresh").textContent = `${number(count)} new`;
  $("fresh").hidden = false;
}

// ---------------------------------------------------------------- live

async function* messages() {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  const response = await fetch("/api/events", { headers });
  if (!response.ok) throw new Error(`the service answers ${response.status}`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()).join("\n");
      if (data) yield JSON.parse(data);
    }
  }
}

let due = null;
const soon = () => { due ??= setTimeout(() => { due = null; refresh().catch(() => {}); }, 400); };

async function live() {
  for (let pause = 500; ; pause = Math.min(pause * 2, 10000)) {
    try {
      for await (const event of messages()) {
        if (!$("connection").hidden) {
          $("connection").hidden = true;
          await refresh();
        }
        pause = 500;
        if (event.kind === "head") grown(event.head);
        soon();
      }
    } catch { /* said below, and tried again */ }
    $("connection").hidden = false;
    $("connection").textContent = "The service does not answer; trying again.";
    await new Promise((done) => setTimeout(done, pause));
  }
}

// ---------------------------------------------------------------- wiring

$("create").addEventListener("submit", (event) => {
  event.preventDefault();
  act(event.submitter, "Creating…", async () => {
    const made = await call("POST", "/api/checkpoints", { name: $("name").value, description: $("description").value || undefined });
    notice(`Checkpoint ${made.name} is at ${made.lsn}, entry ${number(made.entry_index)}.`);
    event.target.reset();
    await refresh();
  });
});
$("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  view.filter = {};
  if ($("table").value.trim()) view.filter.table = $("table").value.trim();
  if ($("operation").value) view.filter.operation = $("operation").value;
  act(event.submitter, "Filtering…", newest);
});
$("older").addEventListener("click", (event) => act(event.target, "Fetching…", older));
$("fresh").addEventListener("click", (event) => act(event.target, "Fetching…", newest));
$("head").addEventListener("click", (event) => act(event.target, "Going…", () => move({ position: "head" })));
for (const step of ["undo", "redo"]) {
  $(step).addEventListener("click", (event) => act(event.target, "Going…", async () => { told(await call("POST", `/api/${step}`, {})); await refresh(); }));
}
$("session").addEventListener("change", async (event) => {
  try {
    await call("POST", "/api/sessions/switch", { session_id: event.target.value });
    await refresh();
    await newest();
  } catch (error) {
    notice(error.message, true);
  }
});

refresh().then(newest).catch((error) => notice(error.message, true));
live();
