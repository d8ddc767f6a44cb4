// The holds of an account: what is kept back of its money, and how holds ended.
import { h, fill, put } from './dom.js';
import { get } from './api.js';
import { capture, guarded, release } from './commands.js';
import { lacking, learn } from './scopes.js';
import { amount, count, time, words } from './format.js';
import { counted, labels } from './movements.js';
import { badge, filters, found, latest, load, pager, panel, table } from './parts.js';

const STATES = ['open', 'captured', 'released', 'expired'];

// ofStatus are the choices of a status, with how many holds have it.
const ofStatus = (counts) => [...STATES.map((state) => [state === 'open' ? '' : state, `${words(state)}${counts ? ` (${counts[state]})` : ''}`]), ['any', 'Any']];

export function holdsOf(view, query) {
  const { id, path, signal, body } = view;
  const search = filters(path, [{ name: 'status', label: 'Status', options: ofStatus() }], query);
  const button = (text, run, one) => guarded(text, () => run(one, view.done), lacking('accounts:write'), {
    class: 'small', 'aria-label': `${text} the hold of ${amount(one.amount)} ${one.currency} placed at position ${one.position}`,
  });
  const rows = table('Holds', [
    { head: 'Placed', cell: (one) => time(one.placed_at) },
    { head: 'Reference', class: 'lead', cell: (one) => (one.reference || Object.keys(one.metadata ?? {}).length > 0 ? [one.reference, labels(one.metadata)] : '–') },
    { head: 'Status', cell: (one) => badge(one.status) },
    { head: 'Expires', cell: (one) => (one.expires_at ? time(one.expires_at) : 'never') },
    { head: 'Ended', cell: (one) => (one.ended_at ? [time(one.ended_at), h('span', { class: 'under' }, 'at ', h('a', { href: `#/log/${one.ended_position}` }, count(one.ended_position)))] : '–') },
    { head: 'Position', num: true, cell: (one) => h('a', { href: `#/log/${one.position}` }, count(one.position)) },
    { head: 'Amount', money: true, cell: (one) => [h('b', null, amount(one.amount)), one.status === 'captured' && h('span', { class: 'under' }, `${amount(one.captured_amount)} captured`)] },
    { head: 'Action', cell: (one) => (one.status === 'open' ? h('span', { class: 'actions' }, button('Capture', capture, one), button('Release', release, one)) : '–') },
  ], { empty: 'No holds match. Hold money of the account with the button above.' });
  const sum = h('p', { class: 'about', role: 'status' });
  const list = panel('Holds', { wide: true, actions: sum });
  const turn = h('div', { class: 'turn' });
  fill(body, search.element, list.element, turn);
  let asked = query;
  const next = latest(signal);
  const read = (now = next()) => load(list.body, now, async () => {
    const status = asked.get('status') ?? 'open';
    const { body: page } = await get(`/accounts/${id}/holds`, {
      query: { status: status === 'any' ? undefined : status, cursor: asked.get('cursor'), limit: 20, count: true }, wait: view.wait, signal: now,
    });
    await learn(now);
    rows.rows(page.holds);
    put(sum, found(page, 'hold', 'holds'));
    fill(turn, pager(path, asked, page.next_cursor));
    counted(`/accounts/${id}/holds`, 'status', STATES, {}, { wait: view.wait, signal: now }).then((counts) => search.offer('status', ofStatus(counts))).catch(() => {}); // the list says what is wrong
    return rows.element;
  });
  return { read, update(now) { asked = now; search.set(now); read(); } };
}
