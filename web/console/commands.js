// The forms of the commands on an account, its holds and its movements. Each hands its receipt to done.
import { exact } from './amounts.js';
import { decimalsOf } from './currencies.js';
import { h, newID, toast } from './dom.js';
import { Problem, batch, get, send } from './api.js';
import { openForm } from './form.js';
import { amount, count, figure, isZero, less, named, short } from './format.js';
import { accountName, forget, ownerOf } from './owners.js';
import { lacking } from './scopes.js';
import { patch, write } from './metadata.js';

// metadata is the field of an account's or a movement's labels.
export const metadata = { name: 'metadata', label: 'Metadata', type: 'metadata', hint: 'Labels of your own, one a line, as key: value.' };

const sum = (currency) => ({ name: 'amount', label: `Amount in ${currency}`, type: 'amount', currency, required: true });
const money = (currency) => [sum(currency), { name: 'reference', label: 'Reference' }, metadata];

// who links to an account by its owner's name, which is read if it is not given.
const who = async (id, owner) => h('a', { href: `#/accounts/${id}` }, owner || await ownerOf(id) || short(id));
const exactly = (decimal, currency) => figure(exact(decimal, decimalsOf(currency)), currency);

// telling is a done that also says what happened, with a link to it. say makes the sentence, without its end.
export const telling = (done, say) => async (receipt, values) => {
  done(receipt);
  toast(await say(receipt, values), ', ', h('a', { href: `#/log/${receipt.position}` }, `at position ${count(receipt.position)}`), '.');
};

// deposit and withdraw move money in and out.
export function deposit(account, done) {
  openForm({
    title: `Deposit to ${named(account.owner)}`, label: 'Deposit', dryRun: 'offered', list: money(account.currency),
    done: telling(done, async (_, { amount: sum }) => ['Deposited ', exactly(sum, account.currency), ' to ', await who(account.account_id, account.owner)]),
    submit: (values, how) => send('POST', '/deposits', { body: { account_id: account.account_id, ...values }, ...how }),
  });
}

export function withdraw(account, done) {
  openForm({
    title: `Withdraw from ${named(account.owner)}`, label: 'Withdraw', dryRun: 'offered', list: money(account.currency),
    done: telling(done, async (_, { amount: sum }) => ['Withdrew ', exactly(sum, account.currency), ' from ', await who(account.account_id, account.owner)]),
    submit: (values, how) => send('POST', '/withdrawals', { body: { account_id: account.account_id, ...values }, ...how }),
  });
}

// other is the field of another account in the same currency.
const other = (account) => ({ name: 'to_account_id', label: 'To account', type: 'account', currency: account.currency, but: account.account_id });

// transfer moves money to another account.
export function transfer(account, done) {
  openForm({
    title: `Transfer from ${named(account.owner)}`, label: 'Transfer', dryRun: 'offered',
    done: telling(done, async (_, { amount: sum, to_account_id: to }) => ['Transferred ', exactly(sum, account.currency), ' from ', await who(account.account_id, account.owner), ' to ', await who(to)]),
    list: [{ ...other(account), required: true }, ...money(account.currency)],
    submit: (values, how) => send('POST', '/transfers', { body: { from_account_id: account.account_id, ...values }, ...how }),
  });
}

// hold keeps money of an account back, capture takes it, and release makes it available again.
export function hold(account, done) {
  openForm({
    title: `Hold money of ${named(account.owner)}`, label: 'Place the hold', dryRun: 'offered',
    done: telling(done, async (_, { amount: sum }) => ['Held ', exactly(sum, account.currency), ' of ', await who(account.account_id, account.owner)]),
    about: `It is no longer available, and stays in the balance until it is captured or released. ${amount(account.available)} ${account.currency} is available now.`,
    list: [sum(account.currency), { name: 'expires_at', label: 'Expires', type: 'moment', hint: 'When it is released by itself.' }, { name: 'reference', label: 'Reference' }, metadata],
    submit: (values, how) => send('POST', `/accounts/${account.account_id}/holds`, { body: values, ...how }),
  });
}

const holdPath = (one, verb) => `/accounts/${one.account_id}/holds/${one.hold_id}/${verb}`;
const held = (one) => `${amount(one.amount)} ${one.currency}${one.reference ? ` for ${one.reference}` : ''}`;

export function capture(one, done) {
  openForm({
    title: `Capture the hold of ${held(one)}`, label: 'Capture', dryRun: 'offered',
    done: telling(done, async (receipt, { to_account_id: to }) => ['Captured ', figure(receipt.captured_amount, one.currency), ' of ', await who(one.account_id), to ? [' for ', await who(to)] : '']),
    about: 'The money leaves the account. What is not captured is released. A hold is captured once.',
    list: [
      { ...sum(one.currency), required: false, placeholder: one.amount, hint: 'Leave it empty to capture all of it.' },
      { ...other(one), hint: 'Leave it empty to pay the money out.' },
      { name: 'reference', label: 'Reference' },
    ],
    submit: (values, how) => send('POST', holdPath(one, 'capture'), { body: values, ...how }),
  });
}

export function release(one, done) {
  openForm({
    title: `Release the hold of ${held(one)}`, label: 'Release', dryRun: 'offered',
    done: telling(done, async () => ['Released the hold of ', figure(one.amount, one.currency), ' of ', await who(one.account_id)]),
    about: 'The money is available again.', list: [{ name: 'reason', label: 'Reason' }],
    submit: (values, how) => send('POST', holdPath(one, 'release'), { body: values, ...how }),
  });
}

// left is how much of a movement can still be reversed, or null if it is a reversal itself.
export const left = (one) => (one.reverses || !one.reversed_amount ? null : less(one.amount, one.reversed_amount));

// moved says what a movement was, and between whom: a deposit to Ada, a transfer of 5.00 EUR from Ada to Grace. name shows an account.
function moved(one, name, sum) {
  const kind = one.transfer_id ? 'transfer' : one.kind;
  const accounts = one.counterparty_account_id ? [one.account_id, one.counterparty_account_id] : [one.account_id];
  const [first, second] = accounts.map((id) => name(id, one.position));
  const of = sum ? [kind, ' of ', sum] : [kind];
  if (!second) return [of, one.kind === 'deposit' ? ' to ' : ' from ', first];
  return one.kind === 'transfer_in' ? [of, ' from ', second, ' to ', first] : [of, ' from ', first, ' to ', second];
}

// reverse moves the money of a movement back. What it does is shown before it can be done.
export function reverse(one, done) {
  const most = left(one);
  const takes = one.kind !== 'withdrawal'; // from an account that may have spent it
  openForm({
    title: ['Reverse the ', ...moved(one, accountName, figure(one.amount, one.currency))], label: 'Reverse it', danger: true, dryRun: 'first',
    done: telling(done, async (receipt) => {
      const [account, other] = await Promise.all([one.account_id, one.counterparty_account_id].map((id) => id && who(id)));
      return ['Reversed ', figure(receipt.amount, one.currency), ' of the ', moved(one, (id) => (id === one.account_id ? account : other))];
    }),
    about: one.transfer_id ? 'Both sides of the transfer are reversed together.' : null,
    list: [
      { ...sum(one.currency), required: false, placeholder: most, hint: `At most ${amount(most)}. Leave it empty to reverse all of that.` },
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
// The field named by first has the focus.
export function edit(account, done, first) {
  const path = `/accounts/${account.account_id}`;
  let known = account;
  const dialog = openForm({
    title: `Edit the account of ${named(account.owner)}`, label: 'Save', dryRun: 'offered',
    done: telling(done, async (_, { owner }) => {
      forget();
      return ['Changed the account of ', await who(account.account_id, owner)];
    }),
    list: [
      !account.erased && { name: 'owner', label: 'Owner', required: true, value: account.owner },
      { name: 'overdraft_limit', label: `Overdraft limit in ${account.currency}`, type: 'amount', currency: account.currency, required: true, value: account.overdraft_limit },
      !account.erased && { ...metadata, plain: true, whole: true, value: account.metadata },
    ].filter(Boolean),
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
  if (first) dialog.querySelector(`[name="${first}"]`).focus();
}

// difference is the merge patch that makes of one account what is said of another.
function difference(from, to) {
  const body = {};
  if ((to.owner ?? from.owner) !== from.owner) body.owner = to.owner;
  if (to.overdraft_limit !== from.overdraft_limit) body.overdraft_limit = to.overdraft_limit;
  const labels = patch(from.metadata, to.metadata ?? from.metadata);
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
    title: 'The account has changed', status: 412, code: 'version-mismatch',
    detail: `The account has changed since you opened this form. ${said.join(' ') || 'Money keeps moving on it.'} Nothing was saved. Save again to apply what you changed here to the account as it is now.`,
  });
}

const changes = {
  suspend: { past: 'Suspended', title: 'Suspend', label: 'Suspend it', danger: true, about: 'No money moves on a suspended account until it is reactivated.' },
  reactivate: { past: 'Reactivated', title: 'Reactivate', label: 'Reactivate it', about: 'Money can move on the account again.' },
  close: { past: 'Closed', title: 'Close', label: 'Close it', danger: true, about: 'Closing is permanent. The balance must be zero, and no hold open.' },
};

// change suspends, reactivates or closes an account.
export function change(name, account, done) {
  const { past, title, label, danger, about } = changes[name];
  openForm({
    title: `${title} ${named(account.owner)}`, about, label, danger, dryRun: 'offered', list: [{ name: 'reason', label: 'Reason' }],
    done: telling(done, async () => [`${past} the account of `, await who(account.account_id, account.owner)]),
    submit: (values, how) => send('POST', `/accounts/${account.account_id}/${name}`, { body: values, ...how }),
  });
}

// erase erases the person whose account it is. The name has to be typed, because nothing brings it back.
function erase(account, done) {
  openForm({
    title: `Erase ${account.owner}`, label: 'Erase the person', danger: true,
    about: 'The names, references, reasons and metadata of all accounts of this person are gone for ever, also from the past. The accounts go on without a name: balances, holds and movements stay.',
    list: [{ name: 'name', label: 'Name of the owner', required: true, hint: `Type “${account.owner}” to confirm.` }],
    async submit({ name }) {
      if (name !== account.owner) {
        throw new Problem({ title: 'The name is another', status: 422, errors: [{ pointer: '/name', detail: `This is not the owner’s name, ${account.owner}.` }] });
      }
      const { events: [opened] } = await batch({ subject: account.account_id, limit: 1 });
      return send('POST', `/subjects/${opened.data.subject_id ?? account.account_id}/erase`);
    },
    done: telling(done, ({ accounts, plain_text_remains: plain }) => {
      forget();
      return [
        `Erased the person of ${accounts.length === 1 ? 'this account' : `${count(accounts.length)} accounts`}`,
        plain && '; the log still has text from before personal text was sealed',
      ];
    }),
  });
}

// guarded is a button that says why it cannot be used, if there is a reason.
export function guarded(text, run, why, properties) {
  const describedBy = newID('why');
  const button = h('button', {
    type: 'button', ...properties, 'aria-disabled': why ? 'true' : null, 'aria-describedby': why ? describedBy : null, title: why, on: { click: why ? null : run },
  }, text);
  return why ? [button, h('span', { hidden: true, id: describedBy }, why)] : button;
}

// changing is a small button that opens the form of changes at one field.
export const changing = (text, first, account, done) => guarded(text, () => edit(account, done, first),
  lacking('accounts:write') || (account.status === 'closed' && 'A closed account accepts no commands.')
    || (account.erased && first !== 'overdraft_limit' && 'The person was erased.') || null, { class: 'small' });

// erasing is a small button that opens the form of an erasure.
export const erasing = (account, done) => guarded('Erase the person', () => erase(account, done),
  lacking('subjects:erase', 'events:read') || (account.erased && 'The person was erased.') || null, { class: 'small' });

// buttons are those of the commands on an account. Those that its status or the key rule out are disabled, and say why; the server
// has the last word.
export function buttons(account, done) {
  const closed = account.status === 'closed' && 'A closed account accepts no commands.';
  const suspended = account.status === 'suspended' && 'No money moves on a suspended account.';
  const empty = /^-|^0*\.?0*$/.test(account.available) && 'No money is available.';
  const kept = (!isZero(account.balance) && 'An account is closed when its balance is zero.') || (!isZero(account.held) && 'An account is closed when no hold is open.');
  const list = [
    ['Deposit', () => deposit(account, done), suspended, 'primary'],
    ['Withdraw', () => withdraw(account, done), suspended || empty],
    ['Transfer', () => transfer(account, done), suspended || empty],
    ['Hold', () => hold(account, done), suspended || empty],
    ['Edit', () => edit(account, done)],
    account.status === 'suspended'
      ? ['Reactivate', () => change('reactivate', account, done)]
      : ['Suspend', () => change('suspend', account, done)],
    ['Close', () => change('close', account, done), kept],
  ].map(([text, run, why, kind]) => [text, run, lacking('accounts:write') || closed || why || null, kind]);
  const reasons = Map.groupBy(list.filter(([, , why]) => why), ([, , why]) => why);
  return [
    h('div', { class: 'actions' }, list.map(([text, run, why, kind]) => guarded(text, run, why, { class: kind }))),
    [...reasons].map(([why, which]) => h('p', { class: 'meta why' }, which.length < list.length && `${which.map(([text]) => text).join(', ')}: `, why)),
  ];
}
