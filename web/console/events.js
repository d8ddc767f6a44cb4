// What an event says, in a line, and what a dry run would record.
import { h } from './dom.js';
import { amount, count, named, time } from './format.js';
import { write } from './metadata.js';
import { accountLink } from './owners.js';

export const TYPES = [
  'AccountCreated', 'MoneyDeposited', 'MoneyWithdrawn', 'TransferSent', 'TransferReceived', 'HoldPlaced', 'HoldCaptured', 'HoldReleased', 'HoldExpired',
  'CreditReversed', 'DebitReversed', 'OwnerChanged', 'OverdraftLimitChanged', 'MetadataChanged', 'AccountSuspended', 'AccountReactivated', 'AccountClosed', 'SubjectErased',
];

const at = (position) => h('a', { href: `#/log/${position}` }, count(position));

// describe makes the line.
export function describe(event) {
  const { data } = event;
  const sum = () => h('span', { class: 'figure' }, `${amount(data.amount)} ${data.currency}`);
  const said = data.reference ? ` · ${data.reference}` : '';
  const why = data.reason ? ` · ${data.reason}` : '';
  const reversal = (sign, of) => [sign, sum(), data.counterparty_account_id && [of, accountLink(data.counterparty_account_id, event.position)], ' for the movement at ', at(data.reversed_position), data.forced && ' · forced', why];
  switch (event.type) {
    case 'AccountCreated': return `${named(data.owner)}, in ${data.currency}`;
    case 'MoneyDeposited': return ['+', sum(), said];
    case 'MoneyWithdrawn': return ['−', sum(), said];
    case 'TransferSent': return ['−', sum(), ' to ', accountLink(data.to_account_id, event.position), said];
    case 'TransferReceived': return ['+', sum(), ' from ', accountLink(data.from_account_id, event.position), said];
    case 'HoldPlaced': return [sum(), data.expires_at && [' until ', time(data.expires_at)], said];
    case 'HoldCaptured': return [sum(), `, ${amount(data.released)} ${data.currency} released`];
    case 'HoldReleased': return [sum(), why];
    case 'HoldExpired': return sum();
    case 'CreditReversed': return reversal('−', ' to ');
    case 'DebitReversed': return reversal('+', ' from ');
    case 'OwnerChanged': return named(data.owner);
    case 'OverdraftLimitChanged': return h('span', { class: 'figure' }, `${amount(data.overdraft_limit)} ${data.currency}`);
    case 'MetadataChanged': return write(data.metadata).replaceAll('\n', ', ') || 'none';
    case 'SubjectErased': return 'Names, references, reasons and metadata were erased';
    default: return data.reason || '–';
  }
}

// outcome shows what a dry run would record, and what the account would then have.
export function outcome({ account_id: id, events, currency, balance, available }) {
  return [
    h('p', null, h('strong', null, 'Nothing has been recorded.'), ` It would record ${events.length === 1 ? 'this event' : `these ${events.length} events`}:`),
    h('ul', null, events.map((event) => h('li', null, h('b', null, event.type), ' ', describe(event), event.account_id !== id && [', on ', accountLink(event.account_id)]))),
    h('p', null, 'Then the balance is ', h('b', { class: 'figure' }, `${amount(balance)} ${currency}`), ', and ',
      h('b', { class: 'figure' }, `${amount(available)} ${currency}`), ' is available.'),
  ];
}
