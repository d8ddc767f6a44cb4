// What an event says, in a line.
import { h } from './dom.js';
import { amount, short } from './format.js';

export const TYPES = [
  'AccountCreated', 'MoneyDeposited', 'MoneyWithdrawn', 'TransferSent', 'TransferReceived', 'AccountSuspended', 'AccountReactivated', 'AccountClosed',
];

const link = (id) => h('a', { href: `#/accounts/${id}` }, h('code', { title: id }, short(id)));

// describe makes the line.
export function describe(event) {
  const { data } = event;
  const sum = () => h('span', { class: 'figure' }, `${amount(data.amount)} ${data.currency}`);
  const said = data.reference ? ` · ${data.reference}` : '';
  switch (event.type) {
    case 'AccountCreated': return `${data.owner}, in ${data.currency}`;
    case 'MoneyDeposited': return ['+', sum(), said];
    case 'MoneyWithdrawn': return ['−', sum(), said];
    case 'TransferSent': return ['−', sum(), ' to ', link(data.to_account_id), said];
    case 'TransferReceived': return ['+', sum(), ' from ', link(data.from_account_id), said];
    default: return data.reason || '–';
  }
}
