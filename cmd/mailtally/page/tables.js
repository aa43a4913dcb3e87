// The page's lists and tables, made from the series that the metrics have.

import * as words from './words.js';

function cell(row, name, as, className) {
  const td = row.insertCell();
  td.dataset.n = name;
  if (as) td.dataset.as = as;
  if (className) td.className = className;
  td.textContent = '–';
}

function head(row, text) {
  const th = document.createElement('th');
  th.scope = 'row';
  th.textContent = text;
  row.append(th);
}

// The label values that the counts have under `prefix`, known ones first.
function labels(counts, prefix, known) {
  const found = Object.keys(counts).filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
  const order = Object.keys(known);
  const place = (label) => (order.indexOf(label) + order.length + 1) % (order.length + 1);
  return found.sort((a, b) => place(a) - place(b));
}

export function makeTypes(body, counts) {
  for (const type of labels(counts, 'consumed.', words.types)) {
    const row = body.insertRow();
    head(row, words.types[type] ?? type);
    const spark = document.createElement('div');
    spark.className = 'spark';
    spark.dataset.spark = 'consumed.' + type;
    row.insertCell().append(spark);
    cell(row, 'consumed.' + type, 'rate');
    cell(row, 'applied.' + type);
    cell(row, 'duplicate.' + type, '', 'more');
    cell(row, 'dropped.' + type, '', 'more');
  }
}

function makeReasons(body, counts, prefix, known, columns) {
  for (const reason of labels(counts, prefix, known)) {
    const row = body.insertRow();
    head(row, reason);
    const says = row.insertCell();
    says.className = 'words';
    says.textContent = known[reason] ?? '';
    for (const [name, as] of columns) cell(row, name + reason, as);
  }
}

export function makeDropped(body, counts) {
  makeReasons(body, counts, 'dropped.for.', words.reasons, [['dropped.clicked.for.'], ['dropped.for.']]);
}

export function makeRetries(body, counts) {
  makeReasons(body, counts, 'retries.for.', words.retries, [['retries.for.', 'rate'], ['retries.for.']]);
}

export function makeLate(body, role) {
  for (const [name, { says, part }] of Object.entries(words.times)) {
    if (!role[part]) continue;
    const row = body.insertRow();
    head(row, says);
    for (const window of [10, 60]) for (const q of ['p50', 'p99']) cell(row, `${name}.${q}.${window}`, 'seconds');
  }
}

/** makePipe makes the picture as a table. */
export function makePipe(body, role) {
  for (const part of ['producer', 'consumer']) {
    if (!role[part]) continue;
    for (const name of words.ofPart[part]) {
      const row = body.insertRow();
      head(row, words.flows[name]);
      cell(row, name, 'rate');
      cell(row, name);
    }
  }
}

/** showLags draws a bar per partition. Members come and go, and partitions with them. */
export function showLags(box, lags, write) {
  const key = lags.map(({ topic, partition, member }) => `${topic}/${partition}/${member}`).join();
  if (box.dataset.key !== key) {
    box.dataset.key = key;
    box.replaceChildren(...lags.map(makeLag));
    if (lags.length === 0) box.textContent = 'No lag is known now: this process owns no partition, or Kafka does not answer.';
  }
  const most = Math.max(100, ...lags.map(({ value }) => value)); // so that a handful is not a long bar
  for (const [i, { value }] of lags.entries()) {
    const [, bar, number] = box.children[i].children;
    bar.firstChild.style.width = 100 * value / most + '%';
    number.textContent = write(value);
  }
}

function makeLag({ partition, member }) {
  const row = document.createElement('div');
  row.className = 'lag';
  const name = document.createElement('span');
  name.textContent = `${partition}${member && ` · member ${member}`}`;
  const bar = document.createElement('span');
  bar.className = 'bar';
  bar.setAttribute('aria-hidden', 'true');
  bar.append(document.createElement('span'));
  row.append(name, bar, document.createElement('b'));
  return row;
}
