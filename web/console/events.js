// What an event says, in a line.
import { h } from './dom.js';
import { minor, short } from './format.js';

export const TYPES = [
  'AccountCreated', 'MoneyDeposited', 'MoneyWithdrawn', 'TransferSent', 'TransferReceived', 'AccountSuspended', 'AccountReactivated', 'AccountClosed',
];

const link = (id) => h('a', { href: `#/accounts/${id}` }, h('code', { title: id }, short(id)));

// describe makes the line. places tells how many decimals a currency has; while that is not known the amount is shown
// in its smallest unit, which is what the event has.
export function describe(event, places) {
  const { data } = event;
  const sum = () => {
    const known = places(data.currency);
    const digits = known === undefined || known === null ? `${data.amount} minor units` : minor(data.amount, known);
    return h('span', { class: 'figure' }, `${digits} ${data.currency}`);
  };
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
