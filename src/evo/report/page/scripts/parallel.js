// Parallel coordinates, brushed along their axes. On a narrow window the axes lie, and lines run down the page.

const PARALLEL = { edge: 46, top: 34, below: 26, height: 330, row: 44 };
const SNAP = 5;

function showParallel() {
  const place = emptied("parallel");
  const axes = knownAxes(), shown = chosenLast(data.variants.filter(({ values }) => values.score !== null));
  if (!place || axes.length < 2 || !shown.length) return;
  for (const key of state.brushes.keys()) if (!axes.some((axis) => axis.key === key)) state.brushes.delete(key);
  const width = Math.max(300, Math.min(1120, place.clientWidth || 900)), isNarrow = width < 620;
  const tracks = axes.map((axis, index) => makeTrack(axis, index, axes.length, shown, width, isNarrow));
  const lines = shown.map((variant) => parallelLine(variant, tracks));
  const height = isNarrow ? PARALLEL.row * axes.length + 16 : PARALLEL.height;
  const spoken = `Parallel coordinates of ${shown.length} variants along ${axes.length} axes`;
  const count = make("span", { class: "soft", "aria-live": "polite" });
  const freed = make("button", { type: "button", click: () => { state.brushes.clear(); brushed(); } }, "let go of all");
  const frame = { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": spoken, class: "parallel" };
  const picture = draw("svg", frame,
    ...lines, ...tracks.map((track) => trackPicture(track)));
  for (const track of tracks) readyBrush(picture, track);
  place.append(make("div", { class: "controls" }, freed, count), picture);
  readyPicture(picture);
  onBrush("parallel", update);
  update();

  function update() {
    let kept = 0;
    lines.forEach((line, index) => {
      const isKept = isBrushed(shown[index]);
      line.classList.toggle("dim", !isKept);
      kept += isKept ? 1 : 0;
    });
    count.textContent = `${kept} of ${shown.length} kept`;
    freed.hidden = state.brushes.size === 0;
    for (const track of tracks) placeBrush(track);
  }
}

/** One axis: where it lies, and its scale, turned so that better is at the upper or right end. */
function makeTrack(axis, index, count, shown, width, isNarrow) {
  const values = shown.map((variant) => variant.values[axis.key]).filter((value) => value !== null);
  const ends = isNarrow
    ? [12, width - 12]
    : [PARALLEL.height - PARALLEL.below, PARALLEL.top];
  const [start, end] = axis.more === false ? [ends[1], ends[0]] : ends;
  const at = isNarrow
    ? 30 + index * PARALLEL.row
    : PARALLEL.edge + (index * (width - 2 * PARALLEL.edge)) / (count - 1);
  return { axis, at, ends, scale: scaleOver(values, start, end, 0), isNarrow };
}

function parallelLine(variant, tracks) {
  const points = tracks.filter(({ axis }) => variant.values[axis.key] !== null).map(({ axis, at, scale, isNarrow }) => {
    const along = scale(variant.values[axis.key]);
    return isNarrow ? `${along.toFixed(1)} ${at.toFixed(1)}` : `${at.toFixed(1)} ${along.toFixed(1)}`;
  });
  const place = Object.values(data.chosen).indexOf(variant.id);
  const look = place < 0 ? "run" : `run chosen${place}`;
  const said = [variant.id, ...rolesOf(variant.id)].join(", ");
  return draw("path", { d: `M${points.join("L")}`, class: look, "data-id": variant.id }, draw("title", {}, said));
}

function trackPicture(track) {
  const [start, end] = track.ends, { at, axis, isNarrow } = track;
  const line = isNarrow ? `M${start} ${at}H${end}` : `M${at} ${start}V${end}`;
  track.brush = draw("rect", { class: "brush" });
  track.handle = draw("rect", {
    class: "handle", tabindex: 0, role: "slider", "aria-label": `keep along ${axis.name}`,
    "aria-valuenow": 0, "aria-valuemin": track.scale.low, "aria-valuemax": track.scale.high,
    ...boxAlong(track, end, start, 16),
  });
  const texts = isNarrow ? textsAbove(track) : textsAround(track);
  return draw("g", { class: "track" }, draw("path", { class: "spine", d: line }), track.brush, track.handle, ...texts);
}

/** A rectangle along an axis between two places, so wide on either side of it. */
function boxAlong({ at, isNarrow }, one, other, side) {
  const low = Math.min(one, other), size = Math.max(2, Math.abs(one - other));
  return isNarrow
    ? { x: low, y: at - side, width: size, height: 2 * side }
    : { x: at - side, y: low, width: 2 * side, height: size };
}

/** What an axis has at one of its ends. */
function endText({ axis, scale }, place) {
  const value = scale.inverse(place);
  return axis.spelled === "unit" ? value.toFixed(2) : tickText(Number(value.toPrecision(3)));
}

function textsAbove(track) {
  const [start, end] = track.ends, y = track.at - 8;
  const range = `${endText(track, start)} to ${endText(track, end)}`;
  return [
    draw("text", { class: "name", x: start, y }, track.axis.name),
    draw("text", { x: end, y, "text-anchor": "end" }, range),
  ];
}

function textsAround(track) {
  const [start, end] = track.ends, middle = { x: track.at, "text-anchor": "middle" };
  return [
    ...wrapped(track.axis.name, { ...middle, class: "name" }),
    draw("text", { ...middle, y: start + 18 }, endText(track, start)),
    draw("text", { ...middle, y: end - 6 }, endText(track, end)),
  ];
}

/** A name above an axis, in two lines where it has two words. */
function wrapped(name, label) {
  const words = name.split(" "), half = Math.ceil(words.length / 2);
  const lines = words.length > 1 ? [words.slice(0, half).join(" "), words.slice(half).join(" ")] : ["", name];
  return lines.map((line, index) => draw("text", { ...label, y: 2 + index * 12 }, line));
}

function readyBrush(picture, track) {
  const along = (event) => {
    const box = picture.getBoundingClientRect(), unit = picture.viewBox.baseVal.width / box.width;
    const place = track.isNarrow ? (event.clientX - box.left) * unit : (event.clientY - box.top) * unit;
    const [low, high] = [...track.ends].sort((a, b) => a - b);
    return place < low + SNAP ? low : place > high - SNAP ? high : place; // who aims at an end means it
  };
  let from = null;
  track.handle.addEventListener("pointerdown", (event) => {
    from = along(event);
    track.handle.setPointerCapture(event.pointerId);
  });
  track.handle.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const to = along(event);
    if (Math.abs(to - from) > 3) setBrush(track, [track.scale.inverse(from), track.scale.inverse(to)]);
  });
  track.handle.addEventListener("pointerup", (event) => {
    if (from !== null && Math.abs(along(event) - from) <= 3) setBrush(track, null); // a tap lets go
    from = null;
  });
  track.handle.addEventListener("pointercancel", () => (from = null));
  track.handle.addEventListener("keydown", (event) => brushByKey(event, track));
}

function setBrush(track, range) {
  if (range) state.brushes.set(track.axis.key, range.sort((a, b) => a - b));
  else state.brushes.delete(track.axis.key);
  brushed();
}

/** Arrows move the better end of what is kept, with Shift the other one; by a twentieth of the axis. */
function brushByKey(event, track) {
  const moves = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 };
  if (event.key === "Escape" || event.key === "Delete") return setBrush(track, null);
  if (!(event.key in moves)) return undefined;
  event.preventDefault();
  const [start, end] = track.ends, toward = Math.sign(end - start);
  const held = state.brushes.get(track.axis.key) ?? [track.scale.low, track.scale.high];
  const places = held.map(track.scale).sort((a, b) => toward * (a - b)); // the lower end of the picture's axis first
  const which = event.shiftKey ? 0 : 1, step = ((end - start) / 20) * moves[event.key];
  places[which] = Math.min(Math.max(places[which] + step, Math.min(start, end)), Math.max(start, end));
  return setBrush(track, places.map(track.scale.inverse));
}

function placeBrush(track) {
  const held = state.brushes.get(track.axis.key);
  track.brush.classList.toggle("held", Boolean(held));
  const text = held ? `${spelled(track.axis, held[0])} to ${spelled(track.axis, held[1])}` : "everything";
  track.handle.setAttribute("aria-valuetext", text);
  if (!held) return;
  const box = boxAlong(track, ...held.map(track.scale), 7);
  for (const [name, value] of Object.entries(box)) track.brush.setAttribute(name, value);
}
