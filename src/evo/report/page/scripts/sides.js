// Two variants side by side: their figures, and the lines in which their documents differ.

function showSides() {
  const place = emptied("sides");
  if (!place || data.variants.length === 0) return;
  const fallback = data.variants[0].id;
  const started = [data.chosen["best seed"] ?? fallback, data.chosen["best objective"] ?? fallback];
  state.sides = (state.sides ?? started).map((id) => (byId.has(id) ? id : fallback));
  const options = data.variants.map(({ id }) => [id, [id, ...rolesOf(id)].join(", ")]);
  const pick = (index) => choice(["left", "right"][index], options, state.sides[index], (id) => {
    state.sides[index] = id;
    showSides();
  });
  const [left, right] = state.sides.map((id) => byId.get(id));
  place.append(
    make("div", { class: "controls" }, pick(0), pick(1)),
    make("div", { class: "scroll" }, comparedFigures(left, right)),
    comparedLines(left.document, right.document),
  );
}

function comparedFigures(left, right) {
  const titles = ["", left.id, right.id, "change"];
  const head = titles.map((title) => make("th", { scope: "col", class: title ? "n" : null }, title));
  const rows = knownAxes().map((axis) => {
    const [a, b] = [left.values[axis.key], right.values[axis.key]];
    const change = a === null || b === null ? null : b - a;
    const isGain = axis.more === null || !change ? null : change > 0 === axis.more;
    const look = isGain === null ? "n" : isGain ? "n good" : "n bad";
    const cells = [spelled(axis, a), spelled(axis, b)].map((text) => make("td", { class: "n" }, text));
    const said = change === null ? MISSING : (change > 0 ? "+" : "") + spelled(axis, change);
    return make("tr", {}, make("th", { scope: "row" }, axis.name), ...cells, make("td", { class: look }, said));
  });
  return make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
}

function comparedLines(left, right) {
  const rows = lineChanges(left.split("\n"), right.split("\n")).map(([sign, line]) => {
    const look = { "-": "del", "+": "add", " ": null }[sign];
    return make("span", { class: look }, `${sign} ${line}\n`);
  });
  return make("pre", { class: "patch lines" }, ...rows);
}

/** [sign, line] of both texts by a longest common subsequence; what is only left (-) before what is only right (+). */
function lineChanges(left, right) {
  const lengths = Array.from({ length: left.length + 1 }, () => new Uint16Array(right.length + 1));
  for (let i = left.length - 1; i >= 0; i -= 1) {
    for (let j = right.length - 1; j >= 0; j -= 1) {
      lengths[i][j] = left[i] === right[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  const found = [];
  let i = 0, j = 0;
  while (i < left.length || j < right.length) {
    if (i < left.length && j < right.length && left[i] === right[j]) {
      found.push([" ", left[i]]);
      i += 1;
      j += 1;
    } else if (j >= right.length || (i < left.length && lengths[i + 1][j] >= lengths[i][j + 1])) {
      found.push(["-", left[i]]);
      i += 1;
    } else {
      found.push(["+", right[j]]);
      j += 1;
    }
  }
  return found;
}
