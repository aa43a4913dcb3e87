// The charts: the last five minutes, one point per scrape.

import { ago } from './format.js';

/* global uPlot */

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const linear = { range: (_, min, max) => [0, Math.max(1, 1.1 * max)] };

// At least from a millisecond to a second, in whole powers of ten.
const logarithmic = {
  distr: 3,
  range: (_, min, max) => [10 ** Math.min(-3, Math.floor(Math.log10(min || 1))), 10 ** Math.max(0, Math.ceil(Math.log10(max || 1)))],
};

function decades(u, axis, min, max) {
  const list = [];
  for (let power = Math.round(Math.log10(min)); power <= Math.round(Math.log10(max)); power++) list.push(10 ** power);
  return list;
}

const decadeText = (s) => (s < 0.9 ? `${+(1000 * s).toPrecision(1)} ms` : `${+s.toPrecision(1)} s`);

// Ticks of the time axis: round times ago.
function since(u) {
  const { min, max } = u.scales.x;
  const step = [15, 30, 60].find((step) => (max - min) / step <= 5);
  return [5, 4, 3, 2, 1, 0].map((n) => max - n * step).filter((t) => t >= min);
}

const sinceText = (s) => (s < 0.5 ? 'now' : `−${Math.floor((s + 0.5) / 60)}:${String(Math.round(s) % 60).padStart(2, '0')}`);

/**
 * Chart draws series of {name, label, color, dash} into `box`, which has its size
 * from the style sheet. Its legend tells the values: the latest, or those under
 * the pointer or the arrow keys.
 */
export class Chart {
  #plot;
  #box;
  #trail;
  #series;
  #write;
  #legend = [];

  constructor(box, trail, series, { write, log = false, legend }) {
    this.#box = box;
    this.#trail = trail;
    this.#series = series;
    this.#write = write;
    if (legend) this.#makeLegend(legend);
    this.#plot = new uPlot(this.#options(log), this.#data(), box);
    new ResizeObserver(() => this.#plot.setSize(this.#size())).observe(box);
    box.addEventListener('keydown', (event) => this.#key(event));
    box.addEventListener('blur', () => { this.#point(null); this.#say(); });
  }

  draw() {
    this.#plot.setData(this.#data());
    this.#tell();
  }

  /** redraw applies changed colours. */
  redraw() {
    this.#plot.redraw(false, true);
  }

  #data() {
    return [this.#trail.times, ...this.#series.map(({ name }) => this.#trail.values(name))];
  }

  #size() {
    return { width: this.#box.clientWidth, height: this.#box.clientHeight };
  }

  #options(log) {
    const axis = { stroke: () => css('--muted'), font: '12px system-ui', ticks: { show: false }, grid: { stroke: () => css('--line'), width: 1 } };
    return {
      ...this.#size(),
      legend: { show: false },
      cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
      padding: [8, 14, 0, 0],
      scales: { x: { range: () => this.#trail.range() }, y: log ? logarithmic : linear },
      axes: [
        { ...axis, size: 30, gap: 8, grid: { show: false }, splits: since, values: (u, splits) => splits.map((t) => sinceText(u.scales.x.max - t)) },
        { ...axis, size: 58, space: 34, ...(log ? { splits: decades } : {}), values: (_, splits) => splits.map(log ? decadeText : String) },
      ],
      series: [{}, ...this.#series.map(({ color, dash }) => ({ stroke: () => css(color), width: 2, dash, points: { show: false }, spanGaps: false }))],
      hooks: { setCursor: [() => this.#tell()], draw: [(u) => this.#markRestarts(u)] },
    };
  }

  #markRestarts(u) {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = css('--muted');
    ctx.setLineDash([3, 3]);
    ctx.font = `${11 * devicePixelRatio}px system-ui`;
    for (const time of this.#trail.restarts) {
      const x = u.valToPos(time, 'x', true);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.textAlign = x > bbox.left + bbox.width / 2 ? 'right' : 'left';
      ctx.fillText(' restart ', x, bbox.top + 10 * devicePixelRatio);
    }
    ctx.restore();
  }

  #makeLegend(legend) {
    for (const { label, color, dash } of this.#series) {
      const item = document.createElement('li');
      const key = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
      key.setAttribute('viewBox', '0 0 26 8');
      key.setAttribute('aria-hidden', 'true');
      const line = document.createElementNS('http://www.w3.org/2000/svg', 'path');
      line.setAttribute('d', 'M0 4H26');
      line.style.stroke = `var(${color})`;
      if (dash) line.setAttribute('stroke-dasharray', dash.join(' '));
      key.append(line);
      const value = document.createElement('b');
      item.append(key, label, value);
      legend.append(item);
      this.#legend.push(value);
    }
  }

  #tell() {
    const i = this.#plot?.cursor.idx ?? this.#trail.times.length - 1;
    for (const [n, value] of this.#legend.entries()) {
      const text = this.#write(this.#trail.values(this.#series[n].name)[i] ?? null);
      if (value.textContent !== text) value.textContent = text;
    }
  }

  // Arrow keys do what the pointer does, and screen readers read the values: the chart is a
  // slider over time. The text changes only on a key, not with each scrape.
  #key(event) {
    const last = this.#trail.times.length - 1;
    const now = this.#plot.cursor.idx ?? last;
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last, Escape: null }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.#point(to);
    this.#say();
  }

  #say() {
    const i = this.#plot.cursor.idx;
    const age = i == null ? 0 : this.#trail.times.at(-1) - this.#trail.times[i];
    const values = this.#series.map(({ label }, n) => `${label} ${this.#legend[n].textContent}`).join(', ');
    this.#box.setAttribute('aria-valuenow', -Math.round(age));
    this.#box.setAttribute('aria-valuetext', i == null ? 'no point chosen' : `${ago(age)} ago: ${values}`);
  }

  #point(i) {
    const off = { left: -10, top: -10 };
    if (i === null) return this.#plot.setCursor(off);
    const time = this.#trail.times[Math.max(0, Math.min(i, this.#trail.times.length - 1))];
    this.#plot.setCursor({ left: this.#plot.valToPos(time, 'x'), top: 10 });
  }
}

/** Sparkline is a line without axes, on its own scale. */
export class Sparkline {
  #plot;
  #trail;
  #name;

  constructor(box, trail, name) {
    this.#trail = trail;
    this.#name = name;
    const size = () => ({ width: box.clientWidth, height: box.clientHeight });
    this.#plot = new uPlot({
      ...size(),
      legend: { show: false }, cursor: { show: false }, padding: [2, 0, 2, 0],
      scales: {
        x: { range: () => trail.range() },
        y: { range: (_, min, max) => [0, Math.max(0.1, max)] },
      },
      axes: [{ show: false }, { show: false }],
      series: [{}, { stroke: () => css('--main'), fill: () => css('--faint'), width: 1.5, points: { show: false } }],
    }, this.#data(), box);
    new ResizeObserver(() => this.#plot.setSize(size())).observe(box);
  }

  #data() {
    return [this.#trail.times, this.#trail.values(this.#name)];
  }

  draw() {
    this.#plot.setData(this.#data());
  }

  redraw() {
    this.#plot.redraw(false, true);
  }
}
