// The window of one variant: its figures, parents, children and document.

function openVariant(id) {
  const variant = byId.get(id), dialog = document.getElementById("variant");
  if (!variant) return;
  dialog.replaceChildren(...variantParts(variant, dialog));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  history.replaceState(null, "", `#${encodeURIComponent(id)}`);
}

function variantParts(variant, dialog) {
  const roles = rolesOf(variant.id), cell = variant.cell === null ? [] : [`elite of cell ${variant.cell}`];
  const about = [variant.operators.join(", ") || "seed", ...cell, ...roles].join("; ");
  const children = data.variants.filter((other) => other.parents.includes(variant.id)).map((other) => other.id);
  return [
    make("form", { method: "dialog", class: "close" }, make("button", {}, "close")),
    make("h2", {}, variant.id),
    make("p", { class: "soft" }, about),
    variant.failure ? make("p", { class: "bad" }, variant.failure) : null,
    kin("parents", variant.parents),
    kin("children", children),
    figuresOf(variant),
    make("p", { class: "controls" }, ...compareButtons(variant, dialog)),
    copyButton(() => variant.document),
    make("pre", { class: "yaml" }, variant.document || "the document is not here"),
    make("p", { class: "soft" }, variant.file),
  ].filter(Boolean);
}

function kin(name, ids) {
  if (!ids.length) return null;
  const buttons = ids.map((id) => make("button", { type: "button", class: "id", click: () => openVariant(id) }, id));
  return make("p", { class: "controls" }, `${name} `, ...buttons);
}

function figuresOf(variant) {
  const rows = knownAxes().map((axis) => {
    const value = spelled(axis, variant.values[axis.key]);
    return make("tr", {}, make("th", { scope: "row" }, axis.name), make("td", { class: "n" }, value));
  });
  return make("table", {}, make("tbody", {}, ...rows));
}

function compareButtons(variant, dialog) {
  return ["left", "right"].map((side, index) => {
    const button = make("button", { type: "button" }, `compare, ${side}`);
    button.addEventListener("click", () => {
      state.sides[index] = variant.id;
      dialog.close();
      showSides();
      document.getElementById("sides").scrollIntoView();
    });
    return button;
  });
}
