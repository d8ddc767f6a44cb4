// The statement of an account for a period, which never changes once it is made: to be read, printed, or taken away as CSV.
import { h, fill } from './dom.js';
import { get } from './api.js';
import { amount, count, moment, named, time } from './format.js';
import { ofStatement } from './movements.js';
import { download, filters, latest, load, note, pairs, panel, period, table } from './parts.js';

const MOST = 5000; // movements that a page shows

export function statementOf(view, query) {
  const { id, path, signal, body } = view;
  const search = filters(path, [
    period,
    { name: 'from', label: 'First day', type: 'day' },
    { name: 'to', label: 'Last day', type: 'day' },
  ], query);
  const list = panel('Statement', { wide: true, about: 'Days and times are in UTC, so that a statement is the same everywhere.' });
  fill(body, search.element, list.element);
  let asked = query;
  const next = latest(signal);
  const read = (now = next()) => load(list.body, now, () => search.checked(async () => {
    const wanted = { from: begin(asked.get('from')), to: end(asked.get('to')) };
    const where = `/accounts/${id}`;
    const { body: page } = await get(`${where}/transactions`, { query: { ...wanted, limit: 1, count: true }, wait: view.wait, signal: now });
    const many = page.total_exceeds || page.total > MOST;
    if (many) {
      return [note(`The period has ${page.total_exceeds ? 'at least ' : ''}${count(page.total)} movements, which is more than a page can show. Choose a shorter one, or download it.`),
        h('div', { class: 'actions' }, save(where, id, { from: wanted.from, to: wanted.to ?? new Date().toISOString() }, signal))];
    }
    const { body: statement } = await get(`${where}/statement`, { query: wanted, wait: view.wait, signal: now });
    return sheet(statement, where, signal);
  }));
  return { read, update(now) { asked = now; search.set(now); read(); } };
}

// begin is the first moment of a day, and end the first of the day after it; undefined, which is now, if that is still to come.
const begin = (day) => (day ? `${day}T00:00:00Z` : undefined);
function end(day) {
  if (!day) return undefined;
  const after = new Date(`${day}T00:00:00Z`);
  after.setUTCDate(after.getUTCDate() + 1);
  return after.getTime() < Date.now() ? after.toISOString() : undefined;
}

function sheet(statement, where, signal) {
  const { currency, from, to } = statement;
  const rows = table('Movements of the period', ofStatement, { empty: 'No money moved in the period.' });
  rows.rows(statement.transactions);
  const balance = (name, id, value, position) => h('p', null, h('span', { class: 'meta' }, name), h('b', { class: 'value second', id }, amount(value)), ` ${currency}`,
    h('span', { class: 'meta' }, position > 0 ? ['at position ', h('a', { href: `#/log/${position}` }, count(position))] : 'before the account was opened'));
  return h('div', { class: 'sheet' },
    h('div', { class: 'actions' }, save(where, statement.account_id, { from, to }, signal),
      h('button', { type: 'button', on: { click: () => window.print() } }, 'Print')),
    pairs([
      ['Owner', named(statement.owner)], ['Account', h('code', null, statement.account_id)],
      ['From', from ? time(from, true) : 'the opening of the account'], ['To, exclusive', time(to, true)], ['Movements', count(statement.transactions.length)],
    ]),
    h('div', { class: 'figures' },
      balance('Opening balance', 'opening', statement.opening_balance, statement.from_position),
      balance('Closing balance', 'closing', statement.closing_balance, statement.to_position)),
    rows.element);
}

// save is a button that saves the same statement as CSV.
function save(where, id, { from, to }, signal) {
  const day = (rfc3339) => moment(rfc3339, true).slice(0, 10);
  return download(`${where}/statement`, () => ({ from, to }), () => `statement-${id.slice(-8)}-${from ? `${day(from)}-` : ''}${day(to)}.csv`, signal);
}
