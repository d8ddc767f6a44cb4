// Search: whatever is known of an account, a movement, a transfer or an event, typed into one box.
import { h, fill } from '../dom.js';
import { batch, get } from '../api.js';
import { read } from '../amounts.js';
import { TYPES, describe } from '../events.js';
import { UUID, readOrNull } from '../find.js';
import { amount, count, figure, named, short, time } from '../format.js';
import { ofAny } from '../movements.js';
import { accountLink } from '../owners.js';
import { badge, found, latest, load, note, panel, table } from '../parts.js';
import { lacking, learn } from '../scopes.js';

const MOST = 10; // of each kind; a link leads to the rest

export function show({ root, query, signal }) {
  const body = h('div', { class: 'stack' });
  fill(root, h('h1', null, 'Search'), body);
  const next = latest(signal);
  const update = (asked) => {
    const q = (asked.get('q') ?? '').trim();
    const now = next();
    document.querySelector('#search input').value = q;
    if (q === '') {
      fill(body, note('Type an owner’s name, an id, a reference, an amount, a position, or metadata as key: value.'));
      return;
    }
    load(body, now, async () => {
      const parts = (await Promise.all([accounts(q, now), movements(q, now), events(q, now)])).flat();
      const hits = parts.filter((part) => part.total > 0);
      const sum = hits.map((part) => part.said).join(', ');
      const left = parts.filter((part) => part.why).map(({ title, why }) => h('p', { class: 'meta' }, `${title} are not searched: ${why.replace(/^T/, 't')}`));
      return [
        h('p', { class: 'lede', role: 'status' }, hits.length > 0 ? `For “${q}”: ${sum}.` : `Nothing is known of “${q}”. A reference, an amount and metadata must match exactly; of an owner’s name any part.`),
        left,
        hits.map(({ title, said, element, all }) => {
          const list = panel(title, { wide: true, about: said });
          fill(list.body, element, all && h('p', { class: 'rest' }, h('a', { href: all }, 'Show all')));
          return list.element;
        }),
      ];
    });
  };
  update(query);
  return { update };
}

async function accounts(q, signal) {
  const rows = table('Accounts found', [
    { head: 'Owner', class: 'lead', cell: (one) => h('a', { href: `#/accounts/${one.account_id}` }, named(one.owner)) },
    { head: 'Id', cell: (one) => h('code', { title: one.account_id }, short(one.account_id)) },
    { head: 'Status', cell: (one) => badge(one.status) },
    { head: 'Balance', money: true, cell: (one) => [h('b', null, amount(one.balance)), ` ${one.currency}`] },
  ]);
  let page;
  if (UUID.test(q)) {
    const one = await readOrNull(`/accounts/${q.toLowerCase()}`, signal);
    page = { accounts: one ? [one] : [], total: one ? 1 : 0 };
  } else {
    page = (await get('/accounts', { query: { owner_contains: q, limit: MOST, count: true }, signal })).body;
  }
  rows.rows(page.accounts);
  return { title: 'Accounts', total: page.total, said: found(page, 'account', 'accounts'), element: rows.element, all: page.next_cursor && `#/accounts?${new URLSearchParams({ owner_contains: q })}` };
}

// asAmount is the decimal that a text is, as amounts are typed. What could be two is searched for as it is.
function asAmount(q) {
  try {
    return read(q, 2);
  } catch {
    return q;
  }
}

// asked are the searches for movements that a text can mean, as queries of the page of movements.
function asked(q) {
  if (UUID.test(q)) return [{ transfer_id: q.toLowerCase() }];
  const sum = asAmount(q);
  const [, key, value] = /^([^:]{1,40}):\s*(.+)$/.exec(q) ?? [];
  return [
    { reference: q },
    /^\d{1,30}(\.\d{1,9})?$/.test(sum) && { min_amount: sum, max_amount: sum },
    key && { metadata_key: key.trim(), metadata: value },
  ].filter(Boolean);
}

const titles = { reference: 'Movements with this reference', transfer_id: 'Movements of this transfer', min_amount: 'Movements of this amount', metadata_key: 'Movements with this metadata' };

// movements are those of each search, and the transfers that are among them.
async function movements(q, signal) {
  const pages = await Promise.all(asked(q).map(async (query) => {
    const { metadata_key: key, metadata: value, ...rest } = query;
    const { body } = await get('/transactions', { query: { ...rest, ...(key ? { [`metadata[${key}]`]: value } : {}), limit: MOST, count: true }, signal });
    const rows = table('Movements found', ofAny);
    rows.rows(body.transactions);
    return {
      list: body.transactions, title: titles[Object.keys(query)[0]], total: body.total, said: found(body, 'movement', 'movements'), element: rows.element,
      all: body.next_cursor && `#/movements?${new URLSearchParams(query)}`,
    };
  }));
  return [...pages, transfers(pages.flatMap((page) => page.list), pages.some((page) => page.all))];
}

function transfers(list, more) {
  const sent = [...new Map(list.filter((one) => one.transfer_id && ['transfer_out', 'transfer_in'].includes(one.kind)).map((one) => [one.transfer_id, one])).values()];
  const side = (one, out) => accountLink((one.kind === 'transfer_out') === out ? one.account_id : one.counterparty_account_id, one.position);
  const rows = table('Transfers found', [
    { head: 'From', class: 'lead', cell: (one) => side(one, true) },
    { head: 'To', cell: (one) => side(one, false) },
    { head: 'Transfer id', cell: (one) => h('a', { href: `#/movements?transfer_id=${one.transfer_id}` }, h('code', { title: one.transfer_id }, short(one.transfer_id))) },
    { head: 'Recorded', cell: (one) => time(one.recorded_at) },
    { head: 'Amount', money: true, cell: (one) => figure(one.amount, one.currency) },
  ]);
  rows.rows(sent);
  return { title: 'Transfers', total: sent.length, said: found({ total: sent.length, total_exceeds: more }, 'transfer', 'transfers'), element: rows.element };
}

// eventAt is the event at a position as a list, which is empty if the log does not reach that far, or has it in the archive.
async function eventAt(position, signal) {
  try {
    return (await batch({ after: position - 1, limit: 1 }, signal)).events;
  } catch (problem) {
    if (problem.code === 'log-went-back' || problem.code === 'events-archived') return [];
    throw problem;
  }
}

// events are the one at a position, and the types whose name has the text in it.
async function events(q, signal) {
  await learn(signal);
  const why = lacking('events:read');
  if (why) return { title: 'Events', total: 0, why };
  const list = /^[1-9]\d{0,14}$/.test(q) ? await eventAt(Number(q), signal) : [];
  const types = q.length > 2 ? TYPES.filter((type) => type.toLowerCase().includes(q.toLowerCase().replaceAll(' ', ''))) : [];
  const lines = [
    ...list.map((event) => h('li', null, h('a', { href: `#/log/${event.position}` }, `Position ${count(event.position)}`), ` ${event.type} `, describe(event))),
    ...types.map((type) => h('li', null, h('a', { href: `#/log?type=${type}` }, `All events ${type}`))),
  ];
  return { title: 'Events', total: lines.length, said: list.length > 0 ? '1 event' : found({ total: types.length }, 'type of event', 'types of events'), element: h('ul', { class: 'hits' }, lines) };
}
