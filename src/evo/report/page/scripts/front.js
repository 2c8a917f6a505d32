// The Pareto front of two axes that the reader chooses.

const FRONT = { left: 64, top: 12, below: 44, right: 14, height: 340 };

function showFront() {
  const place = emptied("front");
  const axes = knownAxes().filter((axis) => axis.more !== null || axis.spelled === "unit");
  if (!place || axes.length < 2) return;
  const keys = new Set(axes.map((axis) => axis.key));
  const isKnown = state.axes && state.axes.every((key) => keys.has(key));
  const usual = ["flops_per_token", "score"].map((key, index) => (keys.has(key) ? key : axes[index].key));
  state.axes = isKnown ? state.axes : usual;
  const options = axes.map((axis) => [axis.key, axis.name]);
  const pick = (index) => choice(["across", "up"][index], options, state.axes[index], (key) => {
    state.axes[index] = key;
    showFront();
  });
  const [across, up] = state.axes.map((key) => axes.find((axis) => axis.key === key));
  const shown = data.variants.filter(({ values }) => values[across.key] !== null && values[up.key] !== null);
  const front = paretoFront(shown, across, up);
  place.append(make("div", { class: "controls" }, pick(0), pick(1)));
  if (shown.length) {
    const picture = frontPicture(place, shown, front, across, up);
    place.append(picture);
    readyPicture(picture);
  }
  place.append(frontNames(front, across, up));
}

/** Variants that nobody beats: on a measure, where neither is better, more counts as better. */
function paretoFront(shown, across, up) {
  const worth = (variant, axis) => (axis.more === false ? -1 : 1) * variant.values[axis.key];
  const sorted = [...shown].sort((a, b) => worth(b, across) - worth(a, across) || worth(b, up) - worth(a, up));
  let best = -Infinity;
  return sorted.filter((variant) => {
    const isBetter = worth(variant, up) > best;
    if (isBetter) best = worth(variant, up);
    return isBetter;
  });
}

function frontPicture(place, shown, front, across, up) {
  const width = Math.max(300, Math.min(900, place.clientWidth || 700)), height = FRONT.height;
  const x = scaleOver(reached(shown, front, across), FRONT.left, width - FRONT.right);
  const y = scaleOver(reached(shown, front, up), height - FRONT.below, FRONT.top);
  const at = ({ values }) => [x(values[across.key]).toFixed(1), y(values[up.key]).toFixed(1)];
  const onFront = new Set(front), picked = new Set(Object.values(data.chosen));
  const course = `M${front.map((variant) => at(variant).join(" ")).join("L")}`;
  const line = front.length > 1 ? draw("path", { class: "line thin", d: course }) : null;
  const dots = [...shown].sort((a, b) => onFront.has(a) - onFront.has(b)).map((variant) => {
    const look = onFront.has(variant) ? "point" : "each";
    const [cx, cy] = at(variant), radius = look === "point" ? 5 : 3.5;
    const said = `${variant.id}: ${placed(variant, across, up)}`;
    return draw("circle", { cx, cy, r: radius, class: look, "data-id": variant.id }, draw("title", {}, said));
  });
  const named = shown.filter(({ id }) => picked.has(id)).map((variant) => {
    const [px, py] = at(variant), isRight = px > width / 2;
    const place = { x: Number(px) + (isRight ? -9 : 9), y: Number(py) - 8, "text-anchor": isRight ? "end" : "start" };
    return draw("text", { class: "name", ...place }, `${variant.id}, ${rolesOf(variant.id)[0]}`);
  });
  const spoken = `${shown.length} variants by ${across.name} and ${up.name}, ${front.length} of them on the front`;
  const frame = { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": spoken, style: `max-width:${width}px` };
  return draw("svg", frame,
    ...frontAxes(x, y, across, up, width, height), line, ...whiskers(front, across, up, x, y), ...dots, ...named);
}

/** All values along an axis, the ends of whiskers among them. */
function reached(shown, front, axis) {
  const ends = axis.key === "score" && data.noise
    ? front.flatMap(({ values }) => [values.score - data.noise, values.score + data.noise]) : [];
  return [...shown.map(({ values }) => values[axis.key]), ...ends];
}

function frontAxes(x, y, across, up, width, height) {
  const bottom = height - FRONT.below, rungs = ticksOf(y), columns = ticksOf(x, Math.max(3, Math.round(width / 160)));
  const lines = rungs.map((tick) => `M${FRONT.left} ${y(tick).toFixed(1)}H${width - FRONT.right}`).join("");
  const name = { "text-anchor": "middle", class: "name" };
  return [
    draw("path", { class: "axis", d: lines }),
    ...rungs.map((tick) => draw("text", { x: FRONT.left - 6, y: y(tick) + 4, "text-anchor": "end" }, tickText(tick))),
    ...columns.map((tick) => draw("text", { x: x(tick), y: bottom + 18, "text-anchor": "middle" }, tickText(tick))),
    draw("text", { ...name, x: (FRONT.left + width) / 2, y: height - 6 }, across.name),
    draw("text", { ...name, x: 12, y: bottom / 2, transform: `rotate(-90 12 ${bottom / 2})` }, up.name),
  ];
}

/** The noise of one trial around the points of the front, along the axis of the score. */
function whiskers(front, across, up, x, y) {
  const noise = data.noise;
  if (!noise || ![across.key, up.key].includes("score")) return [];
  const path = front.map(({ values }) => {
    if (up.key === "score") return `M${x(values[across.key])} ${y(values.score - noise)}V${y(values.score + noise)}`;
    return `M${x(values.score - noise)} ${y(values[up.key])}H${x(values.score + noise)}`;
  });
  return [draw("path", { class: "whisker", d: path.join("") })];
}

/** Where a variant stands, in words. */
function placed({ values }, across, up) {
  return `${spelled(up, values[up.key])} ${up.name}, ${spelled(across, values[across.key])} ${across.name}`;
}

function frontNames(front, across, up) {
  const rows = front.map((variant) => make("li", {},
    make("button", { type: "button", class: "id", click: () => openVariant(variant.id) }, variant.id),
    ` ${placed(variant, across, up)}`));
  const summary = make("summary", {}, `${front.length} on the front`);
  return make("details", {}, summary, make("ul", { class: "plain" }, ...rows));
}
