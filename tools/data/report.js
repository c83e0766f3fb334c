"use strict";
// Tables sort by a click on a heading: by data-value where cells have it, otherwise by text.
for (const heading of document.querySelectorAll("th[data-sort]")) {
  heading.addEventListener("click", () => {
    const table = heading.closest("table"), index = heading.cellIndex;
    const down = heading.dataset.sort !== "down";
    for (const other of table.querySelectorAll("th[data-sort]")) other.dataset.sort = "";
    heading.dataset.sort = down ? "down" : "up";
    const value = (row) => {
      const cell = row.cells[index], number = parseFloat(cell.dataset.value);
      return Number.isNaN(number) ? cell.textContent : number;
    };
    const order = (a, b) => {
      const x = value(a), y = value(b);
      if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
      const ahead = typeof x === "number" ? y - x : x.localeCompare(y);
      return down ? ahead : -ahead;
    };
    const body = table.tBodies[0];
    for (const row of [...body.rows].sort(order)) body.append(row);
  });
}
// Charts: their data are in the page as JSON, and in its tables for readers without scripts.
if (window.Chart) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  Chart.defaults.color = colour("--soft");
  Chart.defaults.borderColor = colour("--line");
  Chart.defaults.animation = false;
  Chart.defaults.maintainAspectRatio = false;
  // Bars of points {x, y, spread}: so much above and below.
  Chart.register({id: "spread", afterDatasetsDraw(chart) {
    const context = chart.ctx, scale = chart.scales.y;
    chart.data.datasets.forEach((set, i) => {
      const meta = chart.getDatasetMeta(i);
      if (meta.hidden) return;
      context.strokeStyle = Chart.defaults.color;
      meta.data.forEach((point, k) => {
        const raw = set.data[k];
        if (!raw || !raw.spread) return;
        context.beginPath();
        context.moveTo(point.x, scale.getPixelForValue(raw.y - raw.spread));
        context.lineTo(point.x, scale.getPixelForValue(raw.y + raw.spread));
        context.stroke();
      });
    });
  }});
  const hues = [212, 26, 145, 340, 265, 50, 185, 0, 100, 300];
  for (const data of document.querySelectorAll("script[data-chart]")) {
    const config = JSON.parse(data.textContent);
    config.data.datasets.forEach((set, i) => {
      const tone = set.tone ?? i;
      const hue = hues[tone % hues.length], light = tone < hues.length ? 50 : 35;
      set.borderColor = `hsl(${hue} 70% ${light}%)`;
      set.backgroundColor = config.type === "bar" ? set.borderColor : `hsl(${hue} 70% ${light}% / .75)`;
    });
    // A point that has a name says it.
    if (config.type === "scatter") {
      config.options.plugins.tooltip = {
        callbacks: { label: (point) => point.raw.name ?? point.dataset.label },
      };
    }
    new Chart(document.getElementById(data.dataset.chart), config);
  }
}
