// What the dashboard's pages do in a browser beside htmx: times that count down, and plots. Without it all
// pages work, and all numbers are in their tables.

(() => {
  'use strict';

  // How far this machine's clock is from the grid's.
  const skew = Date.now() - Date.parse(document.body.dataset.now);

  const UNITS = [[86400, 'd', 3600, 'h'], [3600, 'h', 60, 'min'], [60, 'min', 1, 's']];

  function span(seconds) {
    for (const [size, unit, below, belowUnit] of UNITS) {
      if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ${Math.floor((seconds % size) / below)} ${belowUnit}`;
    }
    return `${Math.floor(seconds)} s`;
  }

  function countDown() {
    for (const time of document.querySelectorAll('time[data-until]')) {
      const left = (Date.parse(time.dataset.until) - Date.now() + skew) / 1000;
      const text = left > 0 ? `in ${span(left)}` : 'now';
      if (time.textContent !== text) time.textContent = text;
    }
  }

  // Plots of what was measured, over checkpoints

  const plots = [];
  let drawn = '';

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const shown = (value) => (value == null ? '–' : Number(value.toPrecision(4)).toString());

  function axis(label) {
    const line = { stroke: colour('--line'), width: 1 };
    return { stroke: colour('--soft'), grid: line, ticks: line, label, labelSize: label ? 18 : 0, labelFont: '12px system-ui', font: '12px system-ui' };
  }

  function draw(place, metric) {
    const colours = [colour('--accent'), colour('--second'), colour('--soft')];
    const options = {
      width: place.clientWidth,
      height: 210,
      cursor: { y: false },
      scales: { x: { time: false } },
      axes: [
        { ...axis('checkpoint'), incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] },
        { ...axis(), size: 58, values: (_, ticks) => ticks.map(shown) },
      ],
      series: [
        { label: 'checkpoint', value: (_, value) => shown(value) },
        ...metric.lines.map((line, index) => ({
          label: line.name,
          stroke: colours[index % colours.length],
          width: 2,
          points: { show: metric.x.length < 40, size: 6 },
          value: (_, value) => shown(value),
        })),
      ],
    };
    return new uPlot(options, [metric.x, ...metric.lines.map((line) => line.y)], place);
  }

  function drawAll(container, metrics) {
    for (const plot of plots.splice(0)) plot.destroy();
    container.replaceChildren();
    const places = [];
    for (const metric of metrics) {
      const figure = document.createElement('figure');
      const caption = document.createElement('figcaption');
      const place = document.createElement('div');
      const newest = metric.lines[0].y.findLast((value) => value != null);
      caption.textContent = metric.name;
      place.setAttribute('role', 'img');
      place.setAttribute('aria-label', `${metric.name} over ${metric.x.length} checkpoints, at last ${shown(newest)}; the table below has the numbers`);
      figure.append(caption, place);
      container.append(figure);
      places.push(place);
    }
    metrics.forEach((metric, index) => plots.push(draw(places[index], metric))); // once all have their widths
  }

  let metrics = [];

  async function loadPlots() {
    const container = document.getElementById('plots');
    if (!container) return;
    const answer = await fetch(container.dataset.points).catch(() => undefined);
    if (!answer?.ok || answer.redirected) return; // the next change tries again
    const text = await answer.text();
    if (text === drawn) return;
    drawn = text;
    metrics = JSON.parse(text);
    drawAll(container, metrics);
  }

  function redraw() {
    const container = document.getElementById('plots');
    if (container && metrics.length) drawAll(container, metrics);
  }

  let resized;
  window.addEventListener('resize', () => {
    clearTimeout(resized);
    resized = setTimeout(redraw, 150);
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);

  // What the grid tells

  document.body.addEventListener('htmx:sseOpen', (event) => {
    event.detail.source.addEventListener('leave', () => { // the token opens nothing any more
      event.detail.source.close();
      location.reload();
    });
  });
  document.body.addEventListener('htmx:afterSwap', () => {
    countDown();
    loadPlots();
  });

  setInterval(countDown, 1000);
  countDown();
  loadPlots();
})();
