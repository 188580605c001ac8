// The API: one function to call it, one to hear what happens. A token is asked for where one is needed.

const $ = (id) => document.getElementById(id);
const token = () => sessionStorage.getItem("token");

function headers(more = {}) {
  return token() ? { ...more, Authorization: `Bearer ${token()}` } : more;
}

/** Calls the API; throws an error whose message says what is wrong and what to do. */
export async function call(method, path, body, signal) {
  const sent = token();
  let response;
  try {
    response = await fetch(path, {
      method, signal, headers: headers({ "Content-Type": "application/json" }), body: body && JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The service does not answer. Start it with: postgres-test-replay up");
  }
  const answer = await response.json();
  if (response.status === 401) {
    await login(sent, answer.detail);
    return call(method, path, body, signal);
  }
  if (!response.ok) throw Object.assign(new Error([answer.detail, answer.hint].filter(Boolean).join(". ")), { code: answer.code });
  return answer;
}

/** GET with parameters, those left out that are empty. */
export function get(path, parameters = {}, signal) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const query = new URLSearchParams(given).toString();
  return call("GET", query ? `${path}?${query}` : path, undefined, signal);
}

let asking = null;

/** Asks for the token, unless another one was given since the request was sent. */
function login(sent, why) {
  if (!asking && token() !== sent) return undefined;
  asking ??= new Promise((done) => {
    $("refused").textContent = sent ? `Not accepted: ${why}.` : "";
    $("token").value = "";
    $("login").showModal();
    $("login").addEventListener("close", () => {
      sessionStorage.setItem("token", $("token").value);
      asking = null;
      done();
    }, { once: true });
  });
  return asking;
}

async function* messages() {
  const sent = token();
  const response = await fetch("/api/events", { headers: headers() });
  if (response.status === 401) return void await login(sent, "the token is not the one that is set");
  if (!response.ok) throw new Error(`the service answers ${response.status}`);
  yield { kind: "connected" };
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

/** Hears events for ever. `lost` is told when nothing comes any more, `found` when the stream is there again. */
export async function listen({ event, lost, found }) {
  let away = false;
  for (let pause = 250; ; pause = Math.min(pause * 2, 5000)) {
    try {
      for await (const message of messages()) {
        if (away) found();
        [away, pause] = [false, 250];
        event(message);
      }
    } catch { /* told below, and tried again */ }
    away = true;
    lost();
    await new Promise((done) => setTimeout(done, pause));
  }
}
