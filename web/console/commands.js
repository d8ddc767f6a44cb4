// The forms of the commands on an account, its holds and its movements. Each hands its receipt to done.
import { h } from './dom.js';
import { Problem, get, send } from './api.js';
import { openForm } from './form.js';
import { amount, less, words } from './format.js';
import { patch, write } from './metadata.js';

// metadata is the field of an account's or a movement's labels.
export const metadata = { name: 'metadata', label: 'Metadata', type: 'metadata', hint: 'Labels of your own, one a line, as key: value.' };

const sum = (currency) => ({ name: 'amount', label: `Amount in ${currency}`, required: true, inputmode: 'decimal', placeholder: '0.00' });
const money = (currency) => [sum(currency), { name: 'reference', label: 'Reference' }, metadata];

// deposit and withdraw move money in and out.
export function deposit(account, done) {
  openForm({
    title: `Deposit to ${account.owner}`, label: 'Deposit', dryRun: 'offered', list: money(account.currency), done,
    submit: (values, how) => send('POST', '/deposits', { body: { account_id: account.account_id, ...values }, ...how }),
  });
}

export function withdraw(account, done) {
  openForm({
    title: `Withdraw from ${account.owner}`, label: 'Withdraw', dryRun: 'offered', list: money(account.currency), done,
    submit: (values, how) => send('POST', '/withdrawals', { body: { account_id: account.account_id, ...values }, ...how }),
  });
}

// transfer moves money to another account.
export function transfer(account, done) {
  openForm({
    title: `Transfer from ${account.owner}`, label: 'Transfer', dryRun: 'offered', done,
    list: [{ name: 'to_account_id', label: 'To account', required: true, hint: `The id of another account in ${account.currency}.` }, ...money(account.currency)],
    submit: (values, how) => send('POST', '/transfers', { body: { from_account_id: account.account_id, ...values }, ...how }),
  });
}

// hold keeps money of an account back, capture takes it, and release makes it available again.
export function hold(account, done) {
  openForm({
    title: `Hold money of ${account.owner}`, label: 'Place the hold', dryRun: 'offered', done,
    about: `It is no longer available, and stays in the balance until it is captured or released. ${amount(account.available)} ${account.currency} is available now.`,
    list: [sum(account.currency), { name: 'expires_at', label: 'Expires', type: 'datetime-local', hint: 'When it is released by itself.' }, { name: 'reference', label: 'Reference' }, metadata],
    submit: (values, how) => send('POST', `/accounts/${account.account_id}/holds`, { body: values, ...how }),
  });
}

const holdPath = (one, verb) => `/accounts/${one.account_id}/holds/${one.hold_id}/${verb}`;
const held = (one) => `${amount(one.amount)} ${one.currency}${one.reference ? ` for ${one.reference}` : ''}`;

export function capture(one, done) {
  openForm({
    title: `Capture the hold of ${held(one)}`, label: 'Capture', dryRun: 'offered', done,
    about: 'The money leaves the account. What is not captured is released. A hold is captured once.',
    list: [
      { name: 'amount', label: `Amount in ${one.currency}`, inputmode: 'decimal', placeholder: one.amount, hint: 'Leave it empty to capture all of it.' },
      { name: 'to_account_id', label: 'To account', hint: `The id of another account in ${one.currency}. Leave it empty to pay the money out.` },
      { name: 'reference', label: 'Reference' },
    ],
    submit: (values, how) => send('POST', holdPath(one, 'capture'), { body: values, ...how }),
  });
}

export function release(one, done) {
  openForm({
    title: `Release the hold of ${held(one)}`, label: 'Release', dryRun: 'offered', done,
    about: 'The money is available again.', list: [{ name: 'reason', label: 'Reason' }],
    submit: (values, how) => send('POST', holdPath(one, 'release'), { body: values, ...how }),
  });
}

// left is how much of a movement can still be reversed, or null if it is a reversal itself.
export const left = (one) => (one.reverses || !one.reversed_amount ? null : less(one.amount, one.reversed_amount));

// reverse moves the money of a movement back. What it does is shown before it can be done.
export function reverse(one, done) {
  const most = left(one);
  const takes = one.kind !== 'withdrawal'; // from an account that may have spent it
  openForm({
    title: `Reverse the ${words(one.kind).toLowerCase()} of ${amount(one.amount)} ${one.currency}`, label: 'Reverse it', danger: true, dryRun: 'first', done,
    about: one.transfer_id ? 'Both sides of the transfer are reversed together.' : null,
    list: [
      { name: 'amount', label: `Amount in ${one.currency}`, inputmode: 'decimal', placeholder: most, hint: `At most ${amount(most)}. Leave it empty to reverse all of that.` },
      { name: 'reason', label: 'Reason' },
      ...(takes ? [{
        name: 'force', label: 'Force it', type: 'checkbox', warning: true,
        hint: 'Warning: takes the money even if it has been spent. The account may then owe more than its overdraft limit allows.',
      }] : []),
    ],
    submit: (values, how) => send('POST', '/reversals', { body: { position: one.position, ...values }, ...how }),
  });
}

// edit changes what is said of an account. Only what was changed in the form is sent, and only while owner, limit and
// metadata are still those that the form began with; that money has moved meanwhile does not matter.
export function edit(account, done) {
  const path = `/accounts/${account.account_id}`;
  let known = account;
  openForm({
    title: `Edit the account of ${account.owner}`, label: 'Save', dryRun: 'offered', done,
    list: [
      { name: 'owner', label: 'Owner', required: true, value: account.owner },
      { name: 'overdraft_limit', label: `Overdraft limit in ${account.currency}`, required: true, inputmode: 'decimal', value: account.overdraft_limit },
      { ...metadata, plain: true, whole: true, value: account.metadata },
    ],
    async submit(values, how) {
      const body = difference(account, values);
      for (let tries = 1; ; tries += 1) {
        try {
          return await send('PATCH', path, { body, version: known.version, ...how });
        } catch (problem) {
          if (problem.code !== 'version-mismatch') throw problem;
          const { body: now } = await get(path);
          const news = difference(known, now);
          known = now;
          if (Object.keys(news).length > 0 || tries === 5) throw conflict(news, now);
          how = { ...how, key: how.key && crypto.randomUUID() }; // another version is another request
        }
      }
    },
  });
}

// difference is the merge patch that makes of one account what is said of another.
function difference(from, to) {
  const body = {};
  if (to.owner !== from.owner) body.owner = to.owner;
  if (to.overdraft_limit !== from.overdraft_limit) body.overdraft_limit = to.overdraft_limit;
  const labels = patch(from.metadata, to.metadata);
  if (Object.keys(labels).length > 0) body.metadata = labels;
  return body;
}

function conflict(news, now) {
  const said = [
    news.owner && `The owner is now ${now.owner}.`,
    news.overdraft_limit && `The overdraft limit is now ${amount(now.overdraft_limit)}.`,
    news.metadata && `The metadata is now ${write(now.metadata).replaceAll('\n', ', ') || 'empty'}.`,
  ].filter(Boolean);
  return new Problem({
    title: 'The account has changed since you opened this form', status: 412, code: 'version-mismatch',
    detail: `${said.join(' ') || 'Money keeps moving on it.'} Nothing was saved. Save again to apply what you changed here to the account as it is now.`,
  });
}

const changes = {
  suspend: { title: 'Suspend', label: 'Suspend it', danger: true, about: 'No money moves on a suspended account until it is reactivated.' },
  reactivate: { title: 'Reactivate', label: 'Reactivate it', about: 'Money can move on the account again.' },
  close: { title: 'Close', label: 'Close it', danger: true, about: 'Closing is permanent. The balance must be zero, and no hold open.' },
};

// change suspends, reactivates or closes an account.
export function change(name, account, done) {
  const { title, label, danger, about } = changes[name];
  openForm({
    title: `${title} ${account.owner}`, about, label, danger, dryRun: 'offered', list: [{ name: 'reason', label: 'Reason' }], done,
    submit: (values, how) => send('POST', `/accounts/${account.account_id}/${name}`, { body: values, ...how }),
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
    button('Hold', () => hold(account, done)),
    button('Edit', () => edit(account, done)),
    account.status === 'suspended'
      ? button('Reactivate', () => change('reactivate', account, done))
      : button('Suspend', () => change('suspend', account, done)),
    button('Close', () => change('close', account, done)),
  ];
}
