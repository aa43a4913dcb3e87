import assert from 'node:assert/strict';
import test from 'node:test';

import { poll } from '../poll.js';

/** browser fakes what poll uses of one: time passes and timers fire when the test says so. */
function browser(t, answers, took = 0) {
  const listeners = {};
  let time = 0;
  t.mock.method(performance, 'now', () => time);
  t.mock.method(Date, 'now', () => b.asked);
  const b = { asked: 0, waits: [], document: { hidden: false, addEventListener: (name, f) => { listeners[name] = f; } } };
  const real = { document: globalThis.document, addEventListener: globalThis.addEventListener, fetch: globalThis.fetch, setTimeout, clearTimeout };
  t.after(() => Object.assign(globalThis, real));
  let timer, scheduled;
  Object.assign(globalThis, {
    document: b.document,
    addEventListener: b.document.addEventListener,
    setTimeout: (f, wait) => { timer = f; b.waits.push(wait); scheduled?.(); return 1; },
    clearTimeout: () => { timer = undefined; },
    fetch: async () => {
      time += took;
      const answer = answers[b.asked++];
      if (answer instanceof Error) throw answer;
      return { ok: answer.status === 200, status: answer.status, text: async () => answer.text };
    },
  });
  // next fires the timer, or whatever else triggers a request, and waits for the answer.
  b.next = (ask = () => timer()) => new Promise((done) => { scheduled = done; ask(); });
  b.event = (name) => listeners[name]();
  return b;
}

const ok = { status: 200, text: 'up 1' };

test('it asks every second, less often while there is no answer, and says since when', async (t) => {
  const b = browser(t, [ok, new Error('refused'), { status: 503 }, new Error('refused'), ok]);
  const heard = [];
  const handlers = { answered: (text) => heard.push(text), away: (since, error) => heard.push([since, error.message]) };
  await b.next(() => poll('metrics', handlers));
  for (let i = 0; i < 4; i++) await b.next();
  assert.equal(heard[0], 'up 1');
  assert.deepEqual(heard.slice(1, 4), [[2, 'refused'], [2, 'it answers 503'], [2, 'refused']]);
  assert.equal(heard[4], 'up 1');
  assert.deepEqual(b.waits, [1000, 2000, 4000, 5000, 1000]);
});

test('the second is counted from request to request', async (t) => {
  for (const [took, wait] of [[300, 700], [2500, 0]]) {
    const b = browser(t, [ok], took);
    await b.next(() => poll('metrics', { answered() {}, away() {} }));
    assert.deepEqual(b.waits, [wait]);
    t.mock.restoreAll();
  }
});

test('it stops while the page is hidden, and resumes when it is visible again', async (t) => {
  const b = browser(t, [ok, ok]);
  await b.next(() => poll('metrics', { answered() {}, away() {} }));
  b.document.hidden = true;
  b.event('visibilitychange');
  assert.equal(b.asked, 1);
  b.document.hidden = false;
  await b.next(() => b.event('visibilitychange'));
  assert.equal(b.asked, 2);
});

test('it never has two requests in flight', async (t) => {
  const b = browser(t, [ok, ok]);
  await b.next(() => {
    poll('metrics', { answered() {}, away() {} });
    b.event('visibilitychange');
    b.event('online');
  });
  assert.equal(b.asked, 1);
});
