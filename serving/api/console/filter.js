"use strict";

// A filter as people type it, as the API has it: `category=films,series price<=20 brand!=acme`.
// Values with spaces stand in quotes. `kinds` are of the attributes: text, number, truth or time.
const OPERATORS = { "<": "lt", "<=": "lte", ">": "gt", ">=": "gte" };
const TERM = /\s*([^\s=<>!"]+)\s*(!=|<=|>=|=|<|>)\s*((?:"[^"]*"|[^\s",]+)(?:,(?:"[^"]*"|[^\s",]+))*)/y;

function parseFilter(text, kinds) {
  if (text.trim().startsWith("{")) return JSON.parse(text);
  const filter = {};
  for (const [name, operator, values] of terms(text)) {
    const typed = values.map((value) => typedValue(value, kinds[name]));
    if (operator in OPERATORS) {
      filter[name] = { ...filter[name], [OPERATORS[operator]]: typed[0] };
    } else if (operator === "=") {
      filter[name] = typed.length > 1 ? typed : typed[0];
    } else {
      if (filter.not) throw new Error("one != at a time: items that meet all of several can be written as JSON");
      filter.not = { [name]: typed.length > 1 ? typed : typed[0] };
    }
  }
  return filter;
}

function parseAttributes(text) {
  const attributes = {};
  for (const [name, operator, values] of terms(text)) {
    if (operator !== "=") throw new Error(`${name}: write ${name}=value`);
    const typed = values.map((value) => typedValue(value, guess(value)));
    attributes[name] = typed.length > 1 ? values.join("|") : typed[0];
  }
  return attributes;
}

function* terms(text) {
  TERM.lastIndex = 0;
  const end = text.trimEnd().length;
  while (TERM.lastIndex < end) {
    const from = TERM.lastIndex;
    const term = TERM.exec(text);
    if (!term) throw new Error(`not understood: ${text.slice(from).trim()}`);
    const values = term[3].match(/"[^"]*"|[^",]+/g).map((value) => value.replaceAll('"', ""));
    yield [term[1], term[2], values];
  }
}

function guess(value) {
  if (value === "true" || value === "false") return "truth";
  return value.trim() !== "" && Number.isFinite(Number(value)) ? "number" : "text";
}

function typedValue(value, kind) {
  if (kind === "number" && guess(value) === "number") return Number(value);
  if (kind === "truth" && guess(value) === "truth") return value === "true";
  return value;
}

if (typeof module !== "undefined") module.exports = { parseFilter, parseAttributes };
