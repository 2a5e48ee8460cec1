"use strict";

const $ = (id) => document.getElementById(id);
const state = { added: [], shown: [], items: [] };

// The key arrives in the fragment, which browsers do not send, and stays in this tab.
const fragment = new URLSearchParams(location.hash.slice(1));
if (fragment.has("key")) {
  sessionStorage.setItem("key", fragment.get("key"));
  history.replaceState(null, "", location.pathname);
}
$("key").value = sessionStorage.getItem("key") ?? "";

async function call(path, body) {
  const headers = { "Content-Type": "application/json" };
  if ($("key").value) headers.Authorization = `Bearer ${$("key").value}`;
  const response = await fetch(path, body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers });
  const answer = await response.json();
  if (response.ok) return answer;
  if (response.status === 401 || response.status === 403) $("key-label").hidden = false;
  throw new Error(`${response.status}: ${answer.error}${answer.field ? ` (${answer.field})` : ""}`);
}

function say(text, error = false) {
  $("message").textContent = text;
  $("message").classList.toggle("error", error);
}

const guarded = (action) => async (...args) => {
  try {
    await action(...args);
  } catch (error) {
    say(error.message, true);
  }
};

function element(tag, text, className) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function titles(ids) {
  if (!ids.length) return new Map();
  const query = new URLSearchParams(ids.map((id) => ["item_id", id]));
  const { items } = await call(`/v1/items?${query}`);
  return new Map(items.map((item) => [item.item_id, item]));
}

async function recommend() {
  const user = $("user").value.trim();
  const request = { k: Number($("k").value) };
  if (user) request.user_id = user;
  if (state.added.length) request.recent_items = state.added;
  if ($("category").value.trim()) request.category = $("category").value.trim();
  const started = performance.now();
  const answer = await call("/v1/recommend", request);
  const elapsed = performance.now() - started;
  const known = await titles(answer.items.map((item) => item.item_id));
  showList(answer, known, elapsed);
  await Promise.all([showHistory(user), showStatus()]);
}

function showList(answer, known, elapsed) {
  const before = new Map(state.shown.map((id, position) => [id, position]));
  state.shown = answer.items.map((item) => item.item_id);
  const degraded = answer.degraded ? `, degraded: ${answer.degraded}` : "";
  $("list-note").textContent = `${answer.policy}${degraded}, ${elapsed.toFixed(0)} ms`;
  $("list").replaceChildren(...answer.items.map((item, position) => {
    const row = document.createElement("tr");
    row.tabIndex = 0;
    row.dataset.item = item.item_id;
    const info = known.get(item.item_id);
    const moved = before.size && before.get(item.item_id) !== position;
    const name = element("td", info?.title ?? item.item_id, moved ? "moved" : "");
    if (info?.category) name.append(" ", element("small", info.category));
    row.append(
      element("td", position + 1),
      name,
      element("td", item.score?.toFixed(3) ?? "–", "number"),
      element("td", item.p_interact?.toFixed(3) ?? "–", "number"),
      element("td", item.propensity.toPrecision(3), "number"),
    );
    row.onclick = guarded(() => click(item.item_id, answer.request_id));
    row.onkeydown = (event) => event.key === "Enter" && row.click();
    return row;
  }));
}

async function showHistory(user) {
  const stored = user ? await call(`/v1/history?${new URLSearchParams({ user_id: user })}`) : [];
  const known = await titles(state.added);
  const lines = stored.map((item) => element("li", item.title));
  lines.push(...state.added.map((id) => element("li", known.get(id)?.title ?? id, "added")));
  $("history").replaceChildren(...lines);
  $("history").scrollTop = $("history").scrollHeight;
  $("history-note").textContent = `${lines.length} ${lines.length === 1 ? "item" : "items"}, newest last`;
}

async function showStatus() {
  const status = await call("/v1/status");
  const figures = {
    version: status.champion,
    challenger: status.challenger ?? "none",
    generation: status.generation,
    policy: `${status.policy}, ${(100 * status.gold_share).toFixed(0)} % uniform`,
    lists: status.recommendations,
    degraded: status.degraded,
  };
  $("status").replaceChildren(...Object.entries(figures).map(([name, value]) => {
    const pair = document.createElement("div");
    pair.append(element("dt", name), element("dd", value));
    return pair;
  }));
  $("users").replaceChildren(...status.example_users.map((user) => {
    const option = document.createElement("option");
    option.value = user;
    return option;
  }));
}

async function click(itemId, requestId) {
  const user = $("user").value.trim();
  if (user) {
    const event = { event_id: crypto.randomUUID(), user_id: user, item_id: itemId, event_type: "click", request_id: requestId };
    await call("/v1/events", event);
    say(`Sent a click on ${itemId} by ${user}.`);
  } else {
    state.added.push(itemId);
    say(`Added ${itemId} to the list; give a user id to send clicks as events.`);
  }
  await recommend();
}

async function find() {
  const query = $("find").value.trim();
  if (!query) return $("found").replaceChildren();
  const { items } = await call(`/v1/items?${new URLSearchParams({ query, limit: 12 })}`);
  $("found").replaceChildren(...items.map((item) => {
    const line = document.createElement("li");
    const button = element("button", item.title);
    button.type = "button";
    button.onclick = guarded(() => add(item.item_id));
    line.append(button);
    return line;
  }));
}

async function add(itemId) {
  state.added.push(itemId);
  $("find").value = "";
  $("found").replaceChildren();
  await recommend();
}

let typing;
$("find").oninput = () => {
  clearTimeout(typing);
  typing = setTimeout(guarded(find), 150);
};
$("find").onkeydown = guarded(async (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  clearTimeout(typing);
  await find();
  $("found").querySelector("button")?.click();
});
$("user").onchange = () => { state.added = []; state.shown = []; };
$("key").onchange = () => sessionStorage.setItem("key", $("key").value);
$("ask").onsubmit = (event) => {
  event.preventDefault();
  say("");
  guarded(recommend)();
};
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
  const number = Number(event.key);
  if (event.key === "/" || event.key === "u") {
    event.preventDefault();
    $(event.key === "u" ? "user" : "find").focus();
  } else if (number >= 1 && number <= 9) {
    $("list").children[number - 1]?.click();
  }
});

guarded(recommend)();
