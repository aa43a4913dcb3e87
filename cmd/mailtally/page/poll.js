// Polls /metrics once a second: one request at a time, backing off while there is no
// answer, and not at all while the page is hidden.

const EVERY = 1000;
const PATIENCE = 3000;
const SELDOM = 5000;

/** poll calls answered(text) for each scrape, and away(since, error) when there is none. */
export function poll(url, { answered, away }) {
  let timer, asking = false, since, wait = EVERY;

  async function ask() {
    clearTimeout(timer);
    if (asking || document.hidden) return; // resumes when the page becomes visible
    asking = true;
    const began = performance.now();
    let text;
    try {
      const answer = await fetch(url, { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(`it answers ${answer.status}`);
      text = await answer.text();
    } catch (error) {
      since ??= Date.now();
      away(since, error);
      wait = Math.min(SELDOM, 2 * wait);
    } finally {
      asking = false;
      if (text !== undefined) [since, wait] = [undefined, EVERY];
      timer = setTimeout(ask, Math.max(0, wait - (performance.now() - began)));
    }
    if (text !== undefined) answered(text);
  }

  document.addEventListener('visibilitychange', ask);
  addEventListener('online', ask);
  ask();
}
