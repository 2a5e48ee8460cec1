"use strict";

const $ = (id) => document.getElementById(id);
const TREND_SECONDS = 5;
const WATCHED_LISTS = 60; // asked for until a new item is drawn
const state = { added: [], shown: [], trend: [], kinds: {}, dislike: null, watched: null };

// The key arrives in the fragment, which browsers do not send, and stays in this tab.
const fragment = new URLSearchParams(location.hash.slice(1));
if (fragment.has("key")) {
  sessionStorage.setItem("key", fragment.get("key"));
  history.replaceState(null, "", location.pathname);
}
$("key").value = sessionStorage.getItem("key") ?? "";

async function call(path, body, method = body ? "POST" : "GET") {
  const headers = body ? { "Content-Type": "application/json" } : {};
  if ($("key").value) headers.Authorization = `Bearer ${$("key").value}`;
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  const answer = await response.json();
  if (response.ok) return answer;
  if (response.status === 401 || response.status === 403) $("key-label").hidden = false;
  const where = answer.field ? ` (${answer.field}${answer.reason ? ` ${answer.reason}` : ""})` : "";
  throw new Error(`${response.status}: ${answer.error}${where}`);
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
  if ($("filter").value.trim()) request.filter = parseFilter($("filter").value, state.kinds);
  const started = performance.now();
  const answer = await call("/v1/recommend", request);
  const elapsed = performance.now() - started;
  const known = await titles(answer.items.map((item) => item.item_id));
  showList(answer, known, elapsed);
  await Promise.all([showHistory(user), showStatus(), showTrend()]);
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
    if (item.rule) name.append(" ", element("small", item.rule, "mark"));
    if (item.item_id === state.watched) name.append(" ", element("small", "put just now", "mark"));
    row.append(
      element("td", position + 1),
      name,
      element("td", item.score?.toFixed(3) ?? "–", "number"),
      element("td", item.p_interact?.toFixed(3) ?? "–", "number"),
      element("td", item.propensity.toPrecision(3), "number"),
    );
    if (state.dislike) row.append(dislikeButton(item.item_id, info?.title, answer.request_id));
    row.onclick = guarded(() => click(item.item_id, answer.request_id));
    row.onkeydown = (event) => event.key === "Enter" && row.click();
    return row;
  }));
}

function dislikeButton(itemId, title, requestId) {
  const cell = element("td", "", "number");
  const button = element("button", "✕", "no");
  button.type = "button";
  button.title = `${state.dislike}: never again for this user`;
  button.ariaLabel = `Dislike ${title ?? itemId}`;
  button.onclick = guarded((event) => {
    event.stopPropagation();
    return dislike(itemId, requestId);
  });
  button.onkeydown = (event) => event.key === "Enter" && event.stopPropagation();
  cell.append(button);
  return cell;
}

async function showTrend() {
  const { items } = await call("/v1/items?limit=10");
  const before = state.trend;
  state.trend = items.map((item) => item.item_id);
  $("trend").replaceChildren(...items.map((item, position) => {
    const line = document.createElement("li");
    const rose = before.length && !(before.indexOf(item.item_id) <= position && before.includes(item.item_id));
    const button = element("button", item.title, rose ? "plain moved" : "plain");
    button.type = "button";
    button.onclick = guarded(() => click(item.item_id));
    line.append(button);
    return line;
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
  state.kinds = status.attributes;
  state.dislike = status.negative_events[0] ?? null;
  $("no-title").hidden = $("no-hint").hidden = !state.dislike;
  offer("users", status.example_users);
  offer("attributes", Object.entries(status.attributes).map(
    ([name, kind]) => `${name}${kind === "number" || kind === "time" ? "<=" : "="}`));
}

function offer(list, values) {
  $(list).replaceChildren(...values.map((value) => {
    const option = document.createElement("option");
    option.value = value;
    return option;
  }));
}

async function send(kind, user, itemId, requestId) {
  const event = { event_id: crypto.randomUUID(), user_id: user, item_id: itemId, event_type: kind };
  if (requestId) event.request_id = requestId;
  await call("/v1/events", event);
}

async function dislike(itemId, requestId) {
  const user = $("user").value.trim();
  if (!user) throw new Error("Whose dislike? Give a user id.");
  await send(state.dislike, user, itemId, requestId);
  say(`Sent a ${state.dislike} of ${itemId} by ${user}: it is in no list of theirs from now on.`);
  await recommend();
}

async function click(itemId, requestId) {
  const user = $("user").value.trim();
  if (user) {
    await send("click", user, itemId, requestId);
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

async function put() {
  const item = { item_id: $("put-id").value.trim(), attributes: parseAttributes($("put-attributes").value) };
  if ($("put-title").value.trim()) item.title = $("put-title").value.trim();
  if ($("put-category").value.trim()) item.category = $("put-category").value.trim();
  await call("/v1/items", item, "PUT");
  state.watched = item.item_id;
  for (let list = 1; list <= WATCHED_LISTS; list++) {
    await recommend();
    if (state.watched !== item.item_id) return;
    if (state.shown.includes(item.item_id)) {
      say(`Put ${item.item_id}: it is in list ${list} from here.`);
      return;
    }
    say(`Put ${item.item_id}: asked for ${list} ${list === 1 ? "list" : "lists"}, it is in none yet.`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

async function takeOut() {
  const itemId = $("put-id").value.trim();
  if (!itemId) throw new Error("Which item? Give its id.");
  await call(`/v1/items/${encodeURIComponent(itemId)}`, null, "DELETE");
  state.watched = null;
  say(`Took ${itemId} out: it is in no list from now on.`);
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
$("put").onsubmit = (event) => {
  event.preventDefault();
  guarded(put)();
};
$("take-out").onclick = guarded(takeOut);
$("ask").onsubmit = (event) => {
  event.preventDefault();
  say("");
  guarded(recommend)();
};
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
  const field = { u: "user", f: "filter", n: "put-id", "/": "find" }[event.key];
  const number = Number(/^(?:Digit|Numpad)([1-9])$/.exec(event.code)?.[1] ?? event.key);
  if (field) {
    event.preventDefault();
    if (event.key === "n") $("shop").open = true;
    $(field).focus();
  } else if (number >= 1 && number <= 9) {
    const row = $("list").children[number - 1];
    (event.shiftKey ? row?.querySelector(".no") : row)?.click();
  }
});

setInterval(() => document.hidden || showTrend().catch(() => {}), 1000 * TREND_SECONDS);
guarded(async () => {
  await showStatus(); // what the shop calls a dislike
  await recommend();
})();
