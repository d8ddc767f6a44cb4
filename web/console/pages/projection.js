// One projection: its state, its failures and its replays.
import { h, fill, toast } from '../dom.js';
import { get, send } from '../api.js';
import { guarded } from '../commands.js';
import { count, time } from '../format.js';
import { accountLink } from '../owners.js';
import { every, note, panel, table, trouble } from '../parts.js';
import { card, past } from '../projection.js';
import { lacking, learn } from '../scopes.js';

export function show({ root, parts: [id], signal }) {
  const one = card(id, { changed: () => now(), level: 'h1' });
  const failures = panel('Failures', { wide: true, about: 'Events that could not be applied. Later events of their accounts wait, in order; nothing is skipped.' });
  const replays = panel('Replays and rollbacks', { wide: true, about: 'Newest first.' });
  const failed = table('Failures', [
    { head: 'Position', cell: (f) => h('a', { href: `#/log/${f.position}` }, count(f.position)) },
    { head: 'Event', class: 'lead', cell: (f) => f.type },
    { head: 'Account', class: 'name', cell: (f) => accountLink(f.account_id) },
    { head: 'Error', class: 'wrap', cell: (f) => f.error ?? '–' },
    { head: 'Tries', num: true, cell: (f) => count(f.attempts) },
    { head: 'Waiting', num: true, cell: (f) => count(f.waiting) },
    { head: 'Last tried', cell: (f) => time(f.last_tried_at) },
    { head: 'Action', cell: (f) => guarded(f.retry_asked ? 'Asked' : 'Retry', (event) => retry(f, event.target), lacking('projections:admin'), { class: 'small', 'aria-label': `Retry position ${f.position}` }) },
  ], { empty: 'None: every event has been applied.' });
  const were = table('Replays and rollbacks', past, { empty: 'None so far.' });
  fill(failures.body, failed.element);
  fill(replays.body, were.element);
  const rest = h('div', { class: 'stack' }, failures.element, replays.element);
  fill(root, h('p', { class: 'crumb' }, h('a', { href: '#/projections' }, 'Projections')), one.element, rest);

  async function retry(failure, button) {
    button.setAttribute('aria-disabled', 'true');
    try {
      await send('POST', `/projections/${id}/failures/${failure.position}/retry`);
      toast(`The event at position ${failure.position} will be retried.`);
    } catch (problem) {
      toast(`${problem.title}. ${problem.message}`);
    }
    now();
  }

  const shown = { failures: '', replays: '' };
  const now = every(1000, signal, async () => {
    const [state, list, done] = await Promise.all([
      get(`/projections/${id}`, { signal }), get(`/projections/${id}/failures`, { signal }), get(`/projections/${id}/replays`, { signal, query: { limit: 20 } }),
    ]);
    await learn(signal);
    one.update(state.body);
    // Rows are rebuilt only when something has changed, so that a focused button keeps the focus.
    if (shown.failures !== JSON.stringify(list.body)) failed.rows(list.body.failures);
    shown.failures = JSON.stringify(list.body);
    if (shown.replays !== JSON.stringify(done.body)) were.rows(done.body.replays);
    shown.replays = JSON.stringify(done.body);
  }, (problem) => {
    fill(rest, problem.status === 404 ? note('There is no such projection. ', h('a', { href: '#/projections' }, 'See all projections')) : trouble(problem));
    one.element.classList.add('gone');
  });
}
