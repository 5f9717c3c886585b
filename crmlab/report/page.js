// Tables that sort and copy, a search box, ages. The page says all it has to say without this, too.
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const button = (label) => Object.assign(document.createElement("button"), { type: "button", textContent: label });
  const words = (cell) => cell.textContent.replace(/\s+/g, " ").trim();
  const missing = (text) => /^(|-|\u2013|nan|none|nat|<na>|not available)$/i.test(text);
  const number = (text) => {
    const plain = text.replace(/\u2212/g, "-").replace(/[\s,$\u20ac\u00a3\u00a5%]/g, "");
    return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(plain) ? Number(plain) : NaN;
  };

  const compare = (column) => (one, other) => {
    const [a, b] = [one, other].map((row) => words(row.cells[column]));
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    const [x, y] = [number(a), number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  };

  // The cells to click on; none where cells span several rows or columns.
  const headers = (table, rows) => {
    const plain = (row) => [...row.cells].every((cell) => cell.colSpan === 1 && cell.rowSpan === 1);
    const width = rows[0]?.cells.length;
    if (rows.length < 2 || !rows.every((row) => row.cells.length === width && plain(row))) return [];
    const heads = [...(table.tHead?.rows ?? [])].filter((row) => row.cells.length === width && plain(row)).reverse();
    if (!heads.length) return [];
    return [...Array(width).keys()].map((i) => (heads.find((row) => words(row.cells[i])) ?? heads[0]).cells[i]);
  };

  const sortable = (table) => {
    const body = table.tBodies[0];
    const rows = table.tBodies.length === 1 ? [...body.rows] : [];
    headers(table, rows).forEach((head, column, heads) => {
      const click = button("");
      click.title = "Sort";
      if (!words(head)) click.setAttribute("aria-label", "Sort by this column");
      click.append(...head.childNodes);
      head.append(click);
      click.addEventListener("click", () => {
        const next = { ascending: "descending", descending: null }[head.getAttribute("aria-sort")];
        const order = next === undefined ? "ascending" : next;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        const sorted = [...rows];
        if (order) {
          head.setAttribute("aria-sort", order);
          sorted.sort(compare(column));
          // What is missing stays at the end, whichever way round.
          if (order === "descending") {
            const given = sorted.filter((row) => !missing(words(row.cells[column])));
            sorted.splice(0, given.length, ...given.reverse());
          }
        }
        body.append(...sorted);
      });
    });
  };

  // A spreadsheet would compute what begins like a formula, and takes 12,345 for a text.
  const cell = (text) => {
    if (/^-?\d{1,3}(,\d{3})+(\.\d+)?$/.test(text)) return text.replace(/,/g, "");
    return /^[=+\-@\uff1d\uff0b\uff0d\uff20]/.test(text) && Number.isNaN(number(text)) && !missing(text) ? `'${text}` : text;
  };
  const separated = (table) =>
    [...table.rows]
      .map((row) => [...row.cells].flatMap((one) => [cell(words(one)), ...Array(one.colSpan - 1).fill("")]).join("\t"))
      .join("\n");

  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Pages that come by plain http have no clipboard but this.
      const write = (event) => {
        event.clipboardData.setData("text/plain", text);
        event.preventDefault();
      };
      document.addEventListener("copy", write);
      document.execCommand("copy");
      document.removeEventListener("copy", write);
    }
  };

  for (const table of all("main table")) {
    sortable(table);
    const click = button("Copy");
    const line = document.createElement("p");
    line.className = "tools";
    click.title = "Copy this table for a spreadsheet";
    click.addEventListener("click", async () => {
      await copy(separated(table));
      click.textContent = "Copied";
      setTimeout(() => (click.textContent = "Copy"), 2000);
    });
    line.append(click);
    (table.closest(".scroll") ?? table).after(line);
  }

  const ago = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  for (const time of all("time[data-age]")) {
    const days = Math.floor((Date.now() - Date.parse(time.dateTime)) / 864e5);
    const [count, unit] = days < 60 ? [days, "day"] : days < 730 ? [Math.floor(days / 30.4), "month"] : [Math.floor(days / 365), "year"];
    if (days >= 0) time.after(` (${ago.format(-count, unit)})`);
  }

  for (const note of all("[data-earlier]")) note.hidden = !location.pathname.includes("/.history/");

  for (const box of all("[data-search]")) {
    const field = box.querySelector("input");
    const found = box.querySelector("output");
    const texts = all("main article").map((article) => [article, article.textContent.toLowerCase()]);
    box.hidden = false;
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase().split(/\s+/);
      for (const [article, text] of texts) article.hidden = !wanted.every((word) => text.includes(word));
      const shown = texts.filter(([article]) => !article.hidden).length;
      found.textContent = field.value.trim() ? `${shown} of ${texts.length}` : "";
    });
  }
})();
