// Accounts: a page of them at a time, by a part of the owner's name, currency and status; and the form that opens one.
import { h, fill, put } from '../dom.js';
import { get, send } from '../api.js';
import { guarded, metadata, telling } from '../commands.js';
import { CURRENCIES, decimalsOf, nameOf } from '../currencies.js';
import { exact } from '../amounts.js';
import { lacking, learn } from '../scopes.js';
import { amount, count, figure, named, short, time, words } from '../format.js';
import { UUID } from '../find.js';
import { openForm } from '../form.js';
import { badge, download, filters, found, inCurrencies, latest, load, pager, panel, table } from '../parts.js';

// ofStatus are the choices of a status, with how many accounts have it.
const ofStatus = (counts) => [['', 'Any'], ...['active', 'suspended', 'closed'].map((status) => [status, counts[status] === undefined ? words(status) : `${words(status)} (${count(counts[status])})`])];

export function show({ root, query, signal }) {
  const search = filters('/accounts', [
    { name: 'owner_contains', label: 'Owner or account id', width: 'grow', placeholder: 'any part of the name' },
    { name: 'currency', label: 'Currency', options: inCurrencies([]) },
    { name: 'status', label: 'Status', options: ofStatus({}) },
    { name: 'sort', label: 'Order', options: [['', 'Oldest first'], ['-opened_at', 'Newest first'], ['owner', 'Owner, A to Z'], ['-owner', 'Owner, Z to A']] },
  ], query);
  const rows = table('Accounts', [
    { head: 'Owner', class: 'lead', cell: (one) => h('a', { href: `#/accounts/${one.account_id}` }, named(one.owner)) },
    { head: 'Id', cell: (one) => h('code', { title: one.account_id }, short(one.account_id)) },
    { head: 'Status', cell: (one) => badge(one.status) },
    { head: 'Opened', cell: (one) => time(one.opened_at) },
    { head: 'Held', money: true, cell: (one) => amount(one.held) },
    { head: 'Available', money: true, cell: (one) => amount(one.available) },
    { head: 'Balance', money: true, cell: (one) => [h('b', null, amount(one.balance)), ` ${one.currency}`] },
  ], { empty: 'No accounts match. Change the filters, or open an account.' });
  Promise.all([get('/totals', { signal }), get('/stats', { signal })]).then(([totals, stats]) => {
    search.offer('currency', inCurrencies(totals.body.totals));
    search.offer('status', ofStatus(stats.body.accounts));
  }).catch(() => {}); // the list says what is wrong
  let shown = query;
  const asFilters = () => ({ ...Object.fromEntries(shown), currency: shown.get('currency')?.toUpperCase() });
  const sum = h('span', { class: 'about', role: 'status' });
  const list = panel('All accounts', { wide: true, actions: h('div', { class: 'choice' }, sum, download('/accounts', () => ({ ...asFilters(), cursor: undefined, limit: 500 }), () => 'accounts.csv', signal)) });
  const turn = h('div', { class: 'turn' });
  const opening = h('div', { class: 'commands' });
  fill(root,
    h('div', { class: 'title' }, h('h1', null, 'Accounts'), opening),
    search.element, list.element, turn);

  const offer = () => {
    const why = lacking('accounts:write');
    fill(opening, guarded('Open an account', openAccount, why, { class: 'primary' }), why && h('p', { class: 'meta why' }, why));
  };
  offer();
  const next = latest(signal);
  const update = (asked) => {
    const now = next();
    if (UUID.test(asked.get('owner_contains') ?? '')) {
      location.replace(`#/accounts/${asked.get('owner_contains').toLowerCase()}`);
      return;
    }
    shown = asked;
    search.set(asked);
    load(list.body, now, () => search.checked(async () => {
      const { body } = await get('/accounts', {
        query: { ...asFilters(), limit: 25, count: true }, signal: now,
      });
      await learn(now);
      offer();
      rows.rows(body.accounts);
      put(sum, found(body, 'account', 'accounts'));
      fill(turn, pager('/accounts', asked, body.next_cursor));
      return rows.element;
    }));
  };
  update(query);
  return { update };
}

export function openAccount() {
  let currency = '';
  openForm({
    // Amounts are shown with the decimals of the currency that is chosen.
    changed(inputs) {
      currency = inputs.get('currency').value;
      for (const name of ['overdraft_limit', 'initial_deposit']) inputs.get(name).placeholder = exact('0', decimalsOf(currency));
    },
    title: 'Open an account', label: 'Open it', dryRun: 'offered',
    list: [
      { name: 'owner', label: 'Owner', required: true },
      { name: 'currency', label: 'Currency', required: true, options: [['', 'Choose one'], ...CURRENCIES.map((code) => [code, nameOf(code)])] },
      { name: 'overdraft_limit', label: 'Overdraft limit', type: 'amount', currency: () => currency, hint: 'How far below zero the balance may go.' },
      { name: 'initial_deposit', label: 'Initial deposit', type: 'amount', currency: () => currency, hint: 'Recorded together with the opening.' },
      metadata,
      { name: 'account_id', label: 'Account id', hint: 'A UUID. Leave it empty to have one generated.' },
    ],
    submit: (values, how) => send('POST', '/accounts', { body: values, ...how }),
    done: telling((receipt) => { location.hash = `/accounts/${receipt.account_id}?wait=${receipt.position}`; },
      (receipt, { owner, initial_deposit: first }) => ['Opened the account of ', h('a', { href: `#/accounts/${receipt.account_id}` }, owner),
        first ? [' with ', figure(exact(first, decimalsOf(currency)), currency)] : ` in ${currency}`]),
  });
}
