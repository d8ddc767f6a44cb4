// The forms of the commands on an account. Each hands its receipt to done.
import { h } from './dom.js';
import { send } from './api.js';
import { openForm } from './form.js';

const money = (currency) => [
  { name: 'amount', label: `Amount in ${currency}`, required: true, inputmode: 'decimal', placeholder: '0.00' },
  { name: 'reference', label: 'Reference' },
];

// deposit and withdraw move money in and out.
export function deposit(account, done) {
  openForm({
    title: `Deposit to ${account.owner}`, label: 'Deposit', list: money(account.currency), done,
    submit: (values, key) => send('POST', '/deposits', { body: { account_id: account.account_id, ...values }, key }),
  });
}

export function withdraw(account, done) {
  openForm({
    title: `Withdraw from ${account.owner}`, label: 'Withdraw', list: money(account.currency), done,
    submit: (values, key) => send('POST', '/withdrawals', { body: { account_id: account.account_id, ...values }, key }),
  });
}

// transfer moves money to another account.
export function transfer(account, done) {
  openForm({
    title: `Transfer from ${account.owner}`, label: 'Transfer', done,
    list: [{ name: 'to_account_id', label: 'To account', required: true, hint: `The id of another account in ${account.currency}.` }, ...money(account.currency)],
    submit: (values, key) => send('POST', '/transfers', { body: { from_account_id: account.account_id, ...values }, key }),
  });
}

const changes = {
  suspend: { title: 'Suspend', label: 'Suspend it', danger: true, about: 'No money moves on a suspended account until it is reactivated.' },
  reactivate: { title: 'Reactivate', label: 'Reactivate it', about: 'Money can move on the account again.' },
  close: { title: 'Close', label: 'Close it', danger: true, about: 'Closing is permanent. The balance must be zero.' },
};

// change suspends, reactivates or closes an account.
export function change(name, account, done) {
  const { title, label, danger, about } = changes[name];
  openForm({
    title: `${title} ${account.owner}`, about, label, danger, list: [{ name: 'reason', label: 'Reason' }], done,
    submit: (values, key) => send('POST', `/accounts/${account.account_id}/${name}`, { body: values, key }),
  });
}

// buttons are those of the commands that an account's status leaves; the server has the last word.
export function buttons(account, done) {
  const button = (text, run, kind) => h('button', { type: 'button', class: kind, on: { click: run } }, text);
  if (account.status === 'closed') return h('p', { class: 'meta' }, 'A closed account accepts no commands.');
  return [
    button('Deposit', () => deposit(account, done), 'primary'),
    button('Withdraw', () => withdraw(account, done)),
    button('Transfer', () => transfer(account, done)),
    account.status === 'suspended'
      ? button('Reactivate', () => change('reactivate', account, done))
      : button('Suspend', () => change('suspend', account, done)),
    button('Close', () => change('close', account, done)),
  ];
}
