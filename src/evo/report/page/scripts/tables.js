// Tables of variants: sorted by their headings, filtered by words and by the brushes of the parallel coordinates.

const UNITS = { k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, E: 1e18 };
let counted = 0;

function readyTables() {
  counted = 0;
  for (const frame of document.querySelectorAll("[data-variants]")) readyTable(frame, `table ${(counted += 1)}`);
  for (const block of document.querySelectorAll("pre.yaml")) block.before(copyButton(() => block.textContent));
}

function readyTable(frame, name) {
  const table = frame.querySelector("table"), rows = [...table.tBodies[0].rows];
  const heads = [...table.tHead.rows[0].cells], titles = heads.map((head) => head.textContent);
  const now = state.tables.get(name) ?? { words: "", column: null, isDown: false };
  state.tables.set(name, now);
  const count = make("span", { class: "soft", "aria-live": "polite" });
  const words = make("input", { type: "search", value: now.words, placeholder: "words, or -word", input: update });
  const order = [["", "as listed"], ...titles.map((title, index) => [String(index), title])];
  const chosen = now.column === null ? "" : String(now.column);
  const sorting = choice("sort by", order, chosen, (value) => sortBy(value === "" ? null : Number(value), false));
  frame.querySelector(".scroll").before(
    make("div", { class: "controls" }, make("label", {}, "filter ", words), sorting, count),
  );
  heads.forEach((head, index) => {
    head.replaceChildren(make("button", { type: "button", click: () => sortBy(index, true) }, titles[index]));
  });
  onBrush(name, update);
  arrange();
  update();

  function sortBy(column, mayTurn) {
    now.isDown = mayTurn && now.column === column ? !now.isDown : false;
    now.column = column;
    sorting.querySelector("select").value = column === null ? "" : String(column);
    arrange();
  }

  function arrange() {
    heads.forEach((head, index) => {
      if (index === now.column) head.setAttribute("aria-sort", now.isDown ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const sorted = now.column === null ? rows : sortedRows(rows, now.column, now.isDown);
    table.tBodies[0].append(...sorted);
  }

  function update() {
    now.words = words.value;
    let shown = 0;
    for (const row of rows) {
      const isShown = matches(row.textContent, now.words) && isBrushed(byId.get(row.dataset.row));
      row.hidden = !isShown;
      shown += isShown ? 1 : 0;
    }
    count.textContent = `${shown} of ${rows.length}`;
  }
}

/** Rows by the numbers of a column, or its words; what has none comes last either way. */
function sortedRows(rows, column, isDown) {
  const keyed = rows.map((row) => [row, sortKey(row.cells[column].textContent)]);
  const sign = isDown ? -1 : 1;
  keyed.sort(([, a], [, b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return sign * order;
  });
  return keyed.map(([row]) => row);
}

/** The number that a cell shows, its words, or null where there is nothing. */
function sortKey(text) {
  const plain = text.trim().replaceAll("\u2212", "-").replaceAll(",", "");
  if (plain === "" || plain === MISSING) return null;
  const found = plain.match(/^([+-]?\d+(?:\.\d+)?)\s*([kMGTPE]?)(?:\s*%|x)?$/);
  return found ? Number(found[1]) * (UNITS[found[2]] ?? 1) : plain;
}

/** Whether a text has all words, and none of those with a minus before them. */
function matches(text, words) {
  const lower = text.toLowerCase();
  return words.toLowerCase().split(/\s+/).filter(Boolean).every((word) =>
    word.length > 1 && word.startsWith("-") ? !lower.includes(word.slice(1)) : lower.includes(word));
}

/** A button that copies a text; where the browser allows no clipboard, the text is selected. */
function copyButton(text) {
  const button = make("button", { type: "button", class: "copy" }, "copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "copied";
    } catch {
      const block = button.parentElement.querySelector("pre");
      if (block) getSelection().selectAllChildren(block);
      button.textContent = "selected: copy by the keyboard";
    }
    setTimeout(() => (button.textContent = "copy"), 2000);
  });
  return button;
}
