// The picture of the pipe, from webhook to row: one drawing in two layouts.

import { none } from './format.js';

const NS = 'http://www.w3.org/2000/svg';
const WIDEST = 24; // width of the band through which everything flows

const nodes = {
  provider: { name: 'Provider', says: 'sends webhooks' },
  producer: { name: 'Producer', says: 'checks signatures', part: 'producer' },
  kafka: { name: 'Kafka', says: 'keeps them safe' },
  group: { name: 'Consumers', says: 'count in batches', part: 'consumer' },
  postgres: { name: 'PostgreSQL', says: 'one row per email' },
  dead: { name: 'Dead letters', says: 'kept, with reasons' },
};

// Each flow is named after its counter. `kind` is its style.
const flows = {
  received: { says: 'received', part: 'producer', kind: 'main' },
  accepted: { says: 'accepted', part: 'producer', kind: 'main' },
  consumed: { says: 'consumed', part: 'consumer', kind: 'main' },
  applied: { says: 'counted', part: 'consumer', kind: 'main' },
  refused: { says: 'refused', part: 'producer', kind: 'refused' },
  ignored: { says: 'ignored', part: 'producer', kind: 'ignored' },
  malformed: { says: 'unreadable', part: 'producer', kind: 'dead' },
  dropped: { says: 'dropped', part: 'consumer', kind: 'dead' },
  duplicate: { says: 'repeats', part: 'consumer', kind: 'repeat' },
};

// Nodes as [x, y, width, height]; flows as path, arrow head [x, y, degrees], and
// label [x, y, anchor]: `split` labels have the rate above the band.
const wide = {
  size: [1120, 284],
  nodes: {
    provider: [0, 38, 126, 72], producer: [248, 38, 136, 72], kafka: [500, 38, 120, 72],
    group: [736, 38, 136, 72], postgres: [994, 38, 126, 72], dead: [490, 214, 140, 62],
  },
  flows: {
    received: ['M126 74H236', [248, 74, 0], [187, 46, 'middle', 'split']],
    accepted: ['M384 74H488', [500, 74, 0], [442, 46, 'middle', 'split']],
    consumed: ['M620 74H724', [736, 74, 0], [678, 46, 'middle', 'split']],
    applied: ['M872 74H982', [994, 74, 0], [933, 46, 'middle', 'split']],
    refused: ['M272 110C272 150 216 150 216 190', [216, 200, 90], [216, 226, 'middle']],
    ignored: ['M316 110V190', [316, 200, 90], [316, 226, 'middle']],
    malformed: ['M360 110C360 180 400 245 478 245', [488, 245, 0], [425, 180, 'start']],
    dropped: ['M760 110C760 180 720 245 642 245', [632, 245, 180], [695, 180, 'end']],
    duplicate: ['M826 110V190', [826, 200, 90], [826, 226, 'middle']],
  },
  firsts: [[1057, 150], [1057, 206]],
};

const tall = {
  size: [328, 648],
  nodes: {
    provider: [0, 0, 132, 56], producer: [0, 128, 132, 128], kafka: [0, 328, 132, 56],
    group: [0, 456, 132, 88], postgres: [0, 592, 132, 56], dead: null,
  },
  flows: {
    received: ['M40 56V116', [40, 128, 90], [66, 86, 'start']],
    accepted: ['M40 256V316', [40, 328, 90], [66, 286, 'start']],
    consumed: ['M40 384V444', [40, 456, 90], [66, 414, 'start']],
    applied: ['M40 544V580', [40, 592, 90], [66, 562, 'start']],
    refused: ['M132 148H160', [168, 148, 0], [182, 144, 'start']],
    ignored: ['M132 192H160', [168, 192, 0], [182, 188, 'start']],
    malformed: ['M132 236H160', [168, 236, 0], [182, 232, 'start']],
    dropped: ['M132 476H160', [168, 476, 0], [182, 472, 'start']],
    duplicate: ['M132 520H160', [168, 520, 0], [182, 516, 'start']],
  },
  firsts: [[182, 606], [262, 606]],
};

function element(parent, name, attributes = {}, text) {
  const e = document.createElementNS(NS, name);
  for (const [attribute, value] of Object.entries(attributes)) e.setAttribute(attribute, value);
  if (text !== undefined) e.textContent = text;
  parent.append(e);
  return e;
}

/** draw redraws the picture, for the parts that this process has. */
export function draw(svg, isWide, role) {
  const layout = isWide ? wide : tall;
  const elsewhere = (part) => (part && !role[part] ? ' elsewhere' : '');
  svg.setAttribute('viewBox', `0 0 ${layout.size.join(' ')}`);
  for (const old of svg.querySelectorAll('g')) old.remove();
  const under = element(svg, 'g');
  const over = element(svg, 'g');
  for (const [name, flow] of Object.entries(flows)) {
    const [d, head, label] = layout.flows[name];
    const g = element(under, 'g', { class: `flow ${flow.kind}${elsewhere(flow.part)}`, 'data-flow': name });
    element(g, 'path', { class: 'band', d });
    element(g, 'path', { class: 'drift', d });
    element(g, 'path', { class: 'head', d: flow.kind === 'main' ? 'M-13 -20L-1 0L-13 20z' : 'M-10 -6L0 0L-10 6z', transform: `translate(${head[0]} ${head[1]}) rotate(${head[2]})` });
    drawLabel(element(over, 'g', { class: `label${elsewhere(flow.part)}` }), name, flow, label);
  }
  for (const [name, node] of Object.entries(nodes)) {
    if (!layout.nodes[name]) continue;
    const [x, y, width, height] = layout.nodes[name];
    const g = element(over, 'g', { class: `node ${name}${elsewhere(node.part)}` });
    element(g, 'rect', { x, y, width, height, rx: 8 });
    const middle = { x: x + width / 2, 'text-anchor': 'middle' };
    element(g, 'text', { ...middle, y: y + height / 2 - 4, class: 'name' }, node.name);
    const says = element(g, 'text', { ...middle, y: y + height / 2 + 15, class: 'says' }, node.says);
    if (name === 'kafka' && role.consumer) says.replaceChildren(number('lag'), ' waiting');
    if (name === 'dead') says.replaceChildren(number('deadletters'), ' kept');
    if (elsewhere(node.part)) says.textContent = 'another process';
  }
  if (role.consumer) {
    const anchor = isWide ? 'middle' : 'start';
    for (const [i, [name, words]] of [['firstopens', 'first opens'], ['firstclicks', 'first clicks']].entries()) {
      const [x, y] = layout.firsts[i];
      const g = element(over, 'g', { class: 'label' });
      element(g, 'text', { x, y, 'text-anchor': anchor, class: 'rate' }).append(number(name));
      element(g, 'text', { x, y: y + 17, 'text-anchor': anchor, class: 'says' }, words);
    }
  }
}

function drawLabel(g, name, flow, [x, y, anchor, split]) {
  const at = { x, 'text-anchor': anchor };
  const rate = element(g, 'text', { ...at, y, class: 'rate' });
  const says = element(g, 'text', { ...at, y: split ? y + 62 : y + 17, class: 'says' });
  if (g.classList.contains('elsewhere')) {
    says.textContent = flow.says;
    return;
  }
  rate.append(number(name, 'rate'), unit());
  if (split) {
    says.textContent = flow.says;
    element(g, 'text', { ...at, y: y + 79, class: 'total' }).append(number(name));
  } else {
    says.append(flow.says + ' ', number(name));
  }
}

function number(name, as = 'count') {
  const e = document.createElementNS(NS, 'tspan');
  e.dataset.n = name;
  e.dataset.as = as;
  e.textContent = '–';
  return e;
}

function unit() {
  const e = document.createElementNS(NS, 'tspan');
  e.setAttribute('class', 'unit');
  e.textContent = ' /s';
  return e;
}

/** flow sets the width of the bands, in proportion to their rates. */
export function flow(svg, rates, running) {
  const most = Math.max(rates.received ?? 0, rates.accepted ?? 0, rates.consumed ?? 0);
  for (const g of svg.querySelectorAll('[data-flow]')) {
    const rate = rates[g.dataset.flow];
    g.style.setProperty('--width', rate > 0 ? Math.max(2, WIDEST * rate / most).toFixed(1) : 1);
    g.classList.toggle('flows', running && rate > 0);
  }
}

/** describe puts the picture into words, for screen readers. */
export function describe(says, role) {
  const parts = [];
  const each = (name) => `${flows[name].says} ${says(name, 'rate')} a second, ${says(name)} in total`;
  if (role.producer) parts.push(`Producer: ${['received', 'accepted', 'refused', 'ignored', 'malformed'].map(each).join('; ')}.`);
  if (role.consumer) {
    const waiting = says('lag') === none ? 'lag not known' : `${says('lag')} waiting in Kafka`;
    parts.push(`Consumers: ${['consumed', 'applied', 'duplicate', 'dropped'].map(each).join('; ')}; ${waiting}; ` +
      `first opens ${says('firstopens')}; first clicks ${says('firstclicks')}.`);
  }
  return parts.join(' ');
}
