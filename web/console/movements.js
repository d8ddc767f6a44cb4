// Movements of money as tables show them: on an account, in a statement, and in the search across accounts.
import { h } from './dom.js';
import { get } from './api.js';
import { guarded, left, reverse } from './commands.js';
import { amount, count, figure, isZero, time, words } from './format.js';
import { accountLink } from './owners.js';
import { lacking } from './scopes.js';

export const KINDS = ['deposit', 'withdrawal', 'transfer_in', 'transfer_out', 'reversal_in', 'reversal_out'];
// counted counts the rows of a path for each value of a filter, as texts. The server counts among the first 10,000 of them.
export async function counted(path, filter, values, query, options) {
  const pages = await Promise.all(values.map((value) => get(path, { query: { ...query, [filter]: value, limit: 1, count: true }, ...options })));
  return Object.fromEntries(values.map((value, i) => [value, `${count(pages[i].body.total)}${pages[i].body.total_exceeds ? '+' : ''}`]));
}

const ofKind = (counts) => [['', 'Any'], ...KINDS.map((kind) => [kind, `${words(kind)}${counts ? ` (${counts[kind]})` : ''}`])];

export const kinds = { name: 'kind', label: 'Kind', options: ofKind() };

// countedKinds are the choices of a kind, with how many movements of each the other filters of a path leave.
export const countedKinds = async (path, query, options) => ofKind(await counted(path, 'kind', KINDS, query, options));

const OUTWARD = ['withdrawal', 'transfer_out', 'reversal_out'];

const at = (position) => h('a', { href: `#/log/${position}` }, count(position));
const under = (...content) => h('span', { class: 'under' }, content);

// labels shows metadata, a line for each key.
export const labels = (metadata) => Object.entries(metadata ?? {}).map(([key, value]) => under(`${key}: ${value}`));

// signed is an amount as it changes the balance.
const signed = (one) => {
  const out = OUTWARD.includes(one.kind);
  return h('span', { class: out ? 'out' : 'in' }, `${out ? '−' : '+'}${amount(one.amount)}`);
};

// linked says what a movement reverses, or what has reversed it.
function linked(one) {
  if (one.reverses) return under('reverses the movement at ', at(one.reverses));
  if (!one.reversed_by?.length) return null;
  return under('reversed by ', one.reversed_by.map((position, i) => [i > 0 && ', ', at(position)]), ': ', figure(one.reversed_amount, one.currency));
}

// reversing is the button that reverses a movement, as long as something of it is left.
function reversing(one, done) {
  const rest = left(one);
  if (rest === null || isZero(rest)) return '–';
  return guarded('Reverse', () => reverse(one, done), lacking('accounts:write'), { class: 'small', 'aria-label': `Reverse the movement at position ${one.position}` });
}

const parts = {
  recorded: { head: 'Recorded', cell: (one) => time(one.recorded_at) },
  account: { head: 'Account', class: 'name', cell: (one) => accountLink(one.account_id, one.position) },
  kind: { head: 'Kind', class: 'lead', cell: (one) => [words(one.kind), linked(one)] },
  reference: { head: 'Reference', class: 'text', cell: (one) => (one.reference || Object.keys(one.metadata ?? {}).length > 0 ? [one.reference, labels(one.metadata)] : '–') },
  other: { head: 'Other account', class: 'name', cell: (one) => (one.counterparty_account_id ? accountLink(one.counterparty_account_id, one.position) : '–') },
  position: { head: 'Position', num: true, cell: (one) => at(one.position) },
  amount: { head: 'Amount', money: true, cell: signed },
  amountIn: { head: 'Amount', money: true, cell: (one) => [signed(one), ` ${one.currency}`] },
  balance: { head: 'Balance', money: true, cell: (one) => h('b', null, amount(one.balance)) },
};
const action = (done) => ({ head: 'Action', cell: (one) => reversing(one, done) });

// ofAccount, ofStatement, ofAny and ofAll are the columns. done gets the receipt of a reversal.
export const ofAccount = (done) => [parts.recorded, parts.kind, parts.reference, parts.other, parts.position, parts.amount, parts.balance, action(done)];
export const ofStatement = [{ ...parts.recorded, cell: (one) => time(one.recorded_at, true) }, parts.kind, parts.reference, parts.other, parts.position, parts.amount, parts.balance];
export const ofAny = [parts.recorded, parts.kind, parts.account, parts.reference, parts.other, parts.position, parts.amountIn];
export const ofAll = (done) => [parts.recorded, parts.kind, parts.account, parts.reference, parts.other, parts.position, parts.amountIn, action(done)];
