"use strict";
// Sorts and filters the table of captions, and enlarges images. Captions are untrusted text: this script moves, hides and
// copies elements that the page already has, and never makes HTML of a text.

for (const box of document.querySelectorAll(".captions")) {
  const body = box.querySelector("tbody");
  const rows = [...body.rows];
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const controls = box.querySelector(".controls");
  const [words, split, change] = ["words", "split", "change"].map((name) => controls.querySelector(`[name=${name}]`));
  const count = controls.querySelector("output");

  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const gain = Number(row.dataset.gain);
      const fits =
        wanted.every((word) => texts.get(row).includes(word)) &&
        (!split?.value || row.dataset.split === split.value) &&
        (!change?.value || (change.value === "worse" ? gain < 0 : gain > 0));
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${rows.length}`;
  };

  const sort = (header) => {
    const column = header.cellIndex;
    const down = header.ariaSort === "ascending";
    const value = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
    const isNumber = header.classList.contains("number");
    const compare = (a, b) => {
      if (!isNumber) return value(a).localeCompare(value(b));
      const [x, y] = [value(a), value(b)];
      // an image without a value comes last in both directions
      if (x === "" || y === "") return (x === "") - (y === "") || 0;
      return Number(x) - Number(y);
    };
    const isEmpty = (row) => isNumber && value(row) === "";
    rows.sort((a, b) => (down && !isEmpty(a) && !isEmpty(b) ? compare(b, a) : compare(a, b)));
    body.append(...rows);
    for (const other of header.parentElement.cells) other.ariaSort = null;
    header.ariaSort = down ? "descending" : "ascending";
  };

  for (const field of [words, split, change]) field?.addEventListener("input", filter);
  for (const button of box.querySelectorAll("thead button")) {
    button.disabled = false;
    button.addEventListener("click", () => sort(button.closest("th")));
  }
  controls.hidden = false;
  filter();
}

const enlarge = (image) => {
  const dialog = document.createElement("dialog");
  const large = document.createElement("img");
  const label = document.createElement("p");
  large.src = image.src;
  large.alt = image.alt;
  label.textContent = `${image.alt}. Click or press Escape to close.`;
  dialog.className = "zoom";
  dialog.append(large, label);
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    dialog.remove();
    image.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
};

for (const image of document.images) {
  image.tabIndex = 0;
  image.setAttribute("role", "button");
  image.title = "enlarge";
}
document.addEventListener("click", (event) => {
  if (event.target.matches("main img")) enlarge(event.target);
});
document.addEventListener("keydown", (event) => {
  if (event.target.matches("main img") && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    enlarge(event.target);
  }
});
