// What every other script uses: the data of the page, elements, numbers as people read them, and what is looked at.

const SVG = "http://www.w3.org/2000/svg"; // a name, not an address: nothing is asked for
const MISSING = "\u2013";
const state = { brushes: new Map(), axes: null, sides: null, tables: new Map(), listeners: new Map() };
let data = { axes: [], variants: [], chosen: {}, noise: null };
let byId = new Map();

/** Take in the data of the page, at its start and whenever it was renewed. */
function readData() {
  data = JSON.parse(document.getElementById("data").textContent);
  byId = new Map(data.variants.map((variant) => [variant.id, variant]));
  state.listeners.clear();
}

/** An element with attributes and children; strings become text, never markup. */
function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for a part of a drawing. */
function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** A count as 950, 12.3 k, 4.56 M. */
function short(value) {
  if (value === null || value === undefined) return MISSING;
  for (const [unit, size] of [["E", 1e18], ["P", 1e15], ["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (Math.abs(value) >= 0.9995 * size) return minus(`${Number((value / size).toPrecision(3))} ${unit}`);
  }
  return minus(String(Number(value.toPrecision(4))));
}

function minus(text) {
  return text.replace("-", "\u2212");
}

/** A number along an axis: counts short, everything else to four places. */
function spelled(axis, value) {
  if (value === null || value === undefined) return MISSING;
  return axis.spelled === "count" ? short(value) : minus(value.toFixed(4));
}

/** The axes along which some variant has a number. */
function knownAxes() {
  return data.axes.filter((axis) => data.variants.some((variant) => variant.values[axis.key] !== null));
}

/** What a variant is, if it was chosen: "best objective". */
function rolesOf(id) {
  return Object.keys(data.chosen).filter((role) => data.chosen[role] === id);
}

/** Variants with the chosen ones at the end, where they are drawn over the others. */
function chosenLast(variants) {
  const order = (variant) => rolesOf(variant.id).length;
  return [...variants].sort((a, b) => order(a) - order(b));
}

/** Whether a variant passes every brush. */
function isBrushed(variant) {
  return [...state.brushes].every(([key, [low, high]]) => {
    const value = variant.values[key];
    return value !== null && value !== undefined && low <= value && value <= high;
  });
}

/** Call `listener` whenever brushes change; one of the same name before it is forgotten. */
function onBrush(name, listener) {
  state.listeners.set(name, listener);
}

function brushed() {
  for (const listener of state.listeners.values()) listener();
}

/** The place that a section keeps for a script, emptied; null where the section is not there. */
function emptied(part) {
  const place = document.querySelector(`[data-part="${part}"]`);
  if (place) place.replaceChildren();
  return place;
}

/** A choice among named values. */
function choice(label, options, value, onChange) {
  const select = make("select", { change: () => onChange(select.value) });
  for (const [key, name] of options) select.append(make("option", { value: key, selected: key === value }, name));
  return make("label", {}, `${label} `, select);
}
