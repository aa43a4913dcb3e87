// The live page: every scrape redraws all of it.

import { Chart, Sparkline } from './charts.js';
import { Clock } from './clock.js';
import * as format from './format.js';
import { History } from './history.js';
import * as pipe from './pipe.js';
import { poll } from './poll.js';
import * as says from './says.js';
import { read } from './snapshot.js';
import * as tables from './tables.js';
import { Trail } from './trail.js';
import { ofPart } from './words.js';

const WINDOW = 10; // seconds that the displayed rates cover

const find = (id) => document.getElementById(id);
const clock = new Clock();
const history = new History();
const trail = new Trail();
const isWide = matchMedia('(min-width: 1080px)');
let role; // of this process, once known
let charts = [];
let running = false;
let restarted = false; // since this page was opened

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** write formats the number that [data-n] names, in the format of [data-as]. */
function write(name, as = 'count') {
  const { counts, lag, inFlight } = history.latest;
  const [histogram, q, seconds] = name.split('.');
  const quantile = () => history.quantile(histogram, Number(q.slice(1)) / 100, Number(seconds));
  switch (as) {
    case 'rate': return format.rate(history.rate(name, WINDOW));
    case 'seconds': return format.seconds(quantile());
    case 'size': return format.count(quantile());
    case 'share': {
      const [part, all] = name.split('/');
      return format.share(counts[part], counts[all]);
    }
    default: return format.count({ lag, inFlight, ...counts }[name]);
  }
}

/** begin builds what depends on the parts of the pipe that this process has. */
function begin(snapshot) {
  role = { producer: snapshot.producer, consumer: snapshot.consumer };
  for (const section of document.querySelectorAll('[data-part]')) {
    const { part, unless } = section.dataset;
    section.hidden = !role[part] || role[unless];
  }
  setText(find('role'), says.whose(role));
  tables.makeLate(find('late'), role);
  tables.makePipe(find('pipe-table'), role);
  tables.makeTypes(find('types'), snapshot.counts);
  tables.makeDropped(find('dropped'), snapshot.counts);
  tables.makeRetries(find('retries'), snapshot.counts);
  find('main').classList.remove('waiting');
  makeCharts();
}

const lines = {
  firsts: [
    { name: 'firstopens', label: 'first opens', color: '--main' },
    { name: 'firstclicks', label: 'first clicks', color: '--dead', dash: [8, 4] },
  ],
  delay: [
    { name: 'delay.p99', label: '99 % within', color: '--main', part: 'consumer' },
    { name: 'delay.p50', label: 'half within', color: '--good', dash: [8, 4], part: 'consumer' },
    { name: 'publish.p99', label: 'in Kafka, 99 %', color: '--repeat', dash: [2, 4], part: 'producer' },
    { name: 'publish.p50', label: 'in Kafka, half', color: '--ignored', dash: [10, 3, 2, 3], part: 'producer' },
  ],
  aside: [
    { name: 'refused', label: 'refused', color: '--refused', part: 'producer' },
    { name: 'ignored', label: 'ignored', color: '--ignored', dash: [8, 4], part: 'producer' },
    { name: 'duplicate', label: 'repeats', color: '--repeat', dash: [2, 4], part: 'consumer' },
    { name: 'deadletters', label: 'dead letters', color: '--dead', dash: [10, 3, 2, 3] },
  ],
};

function makeCharts() {
  const make = (id, options) => {
    const box = find(id);
    if (box.closest('[hidden]')) return;
    const series = lines[id].filter(({ part }) => !part || role[part]);
    charts.push(new Chart(box, trail, series, { ...options, legend: find(id + '-legend') }));
  };
  make('firsts', { write: format.rate });
  make('delay', { write: format.seconds, log: true });
  make('aside', { write: format.rate });
  for (const box of document.querySelectorAll('[data-spark]')) {
    if (!box.closest('[hidden]')) charts.push(new Sparkline(box, trail, box.dataset.spark));
  }
}

/** point is what the charts draw for the latest scrape: rates since the one before. */
function point(counts) {
  const p = {};
  for (const name of Object.keys(counts)) p[name] = history.rate(name, 0);
  for (const histogram of ['delay', 'publish']) {
    p[histogram + '.p50'] = history.quantile(histogram, 0.5, WINDOW);
    p[histogram + '.p99'] = history.quantile(histogram, 0.99, WINDOW);
  }
  return p;
}

function drawPicture() {
  pipe.draw(find('pipe'), isWide.matches, role);
}

function show() {
  for (const element of document.querySelectorAll('[data-n]')) {
    setText(element, write(element.dataset.n, element.dataset.as));
    element.classList.toggle('zero', element.textContent === '0');
  }
  const { lag, lags, started } = history.latest;
  const names = [...ofPart.producer, ...ofPart.consumer];
  pipe.flow(find('pipe'), Object.fromEntries(names.map((name) => [name, history.rate(name, WINDOW)])), running);
  setText(find('pipe-words'), pipe.describe(write, role));
  tables.showLags(find('lags'), lags, format.count);
  showVerdict(history.latest);
  setText(find('late-note'), says.late(history.quantile(role.consumer ? 'delay' : 'publish', 0.99, WINDOW), role, lag));
  setText(find('since'), says.since(started, Date.now() / 1000, restarted));
  for (const chart of charts) chart.draw();
}

function showVerdict({ counts, inFlight }) {
  const [verdict, text] = says.verdict(counts, inFlight);
  find('verdict').dataset.verdict = verdict;
  setText(find('verdict'), text);
}

function setState(state, text) {
  find('state').dataset.state = state;
  setText(find('state'), text);
}

poll('metrics', {
  answered(text) {
    const now = clock.now();
    const snapshot = read(text);
    const { restarted: again, apart } = history.add(now, snapshot);
    if (!role) {
      begin(snapshot);
      drawPicture();
    }
    if (again) {
      restarted = true;
      trail.restarts.push(now);
    }
    if (apart) trail.add(now - 0.001, {}); // breaks every line, even those whose next value is known at once
    trail.add(now, point(snapshot.counts));
    find('main').dataset.at = now; // the time that rates are computed at, for tests
    running = true;
    show();
    setState('live', 'Live, drawn every second');
  },
  away(since) {
    if (running) {
      running = false;
      show();
    }
    setState('away', `Not reachable since ${format.clock(since)}`);
  },
});

isWide.addEventListener('change', () => {
  if (!role) return;
  drawPicture();
  show();
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { for (const chart of charts) chart.redraw(); });
