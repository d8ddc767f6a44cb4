// Goes the main path with the types that openapi-typescript makes of the document, and openapi-fetch.
import assert from 'node:assert/strict';
import createClient from 'openapi-fetch';
import type { components, paths } from './schema.js';

const [, , baseUrl] = process.argv;
assert(baseUrl, 'the URL of a server is missing');
const api = createClient<paths>({ baseUrl });

const opened = await api.POST('/accounts', {
  params: { header: { 'Idempotency-Key': 'typescript-1' } },
  body: { owner: 'Ada', currency: 'EUR' },
});
assert(opened.data && 'position' in opened.data, `open: ${JSON.stringify(opened.error)}`);
const account = opened.data.account_id;

// The response of a dry run has no position.
let position = 0;
for (const amount of ['12.34', 1]) {
  const deposited = await api.POST('/deposits', { body: { account_id: account, amount } });
  assert(deposited.data && 'position' in deposited.data, `deposit: ${JSON.stringify(deposited.error)}`);
  position = deposited.data.position;
}

// More cents than a float can tell apart.
for (const path of ['/deposits', '/withdrawals'] as const) {
  const moved = await api.POST(path, { body: { account_id: account, amount: '90071992547409.93' } });
  assert(moved.data && 'position' in moved.data, `${path}: ${JSON.stringify(moved.error)}`);
  position = moved.data.position;
}

const refused = await api.POST('/withdrawals', { body: { account_id: account, amount: '99' } });
assert.equal(refused.error?.code, 'insufficient-funds');

const balance = await api.GET('/accounts/{account_id}/balance', {
  params: { path: { account_id: account }, query: { min_position: position } },
});
assert.equal(balance.data?.balance, '13.34');

// The movements, a page at a time; as CSV they would be a string.
const amounts: string[] = [];
for (let cursor: string | undefined; ;) {
  const page = await api.GET('/accounts/{account_id}/transactions', {
    params: { path: { account_id: account }, query: { limit: 1, sort: 'recorded_at', min_position: position, ...(cursor && { cursor }) } },
  });
  assert(page.data && typeof page.data !== 'string', `statement: ${JSON.stringify(page.error)}`);
  amounts.push(...page.data.transactions.map((t) => t.amount));
  if (page.data.next_cursor === null) break;
  cursor = page.data.next_cursor;
}
assert.deepEqual(amounts, ['12.34', '1.00', '90071992547409.93', '90071992547409.93']);

// What an event has follows from its type: this does not compile unless each is narrowed.
function said(event: components['schemas']['CloudEvent']): string {
  switch (event.type) {
    case 'AccountCreated': return `${event.data.owner} in ${event.data.currency}`;
    case 'MoneyDeposited': return `+${event.data.amount} ${event.data.currency}`;
    case 'MoneyWithdrawn': return `-${event.data.amount} ${event.data.currency}`;
    case 'TransferSent': return `to ${event.data.to_account_id}`;
    case 'TransferReceived': return `from ${event.data.from_account_id}`;
    case 'AccountSuspended':
    case 'AccountReactivated':
    case 'AccountClosed': return event.data.reason ?? '';
    case 'OwnerChanged': return event.data.owner;
    case 'OverdraftLimitChanged': return event.data.overdraft_limit;
    case 'SubjectErased': return event.data.subject_id;
    case 'MetadataChanged': return Object.keys(event.data.metadata).join();
    case 'HoldPlaced':
    case 'HoldReleased':
    case 'HoldExpired': return `${event.data.hold_id}: ${event.data.amount}`;
    case 'HoldCaptured': return `${event.data.hold_id}: ${event.data.amount}, ${event.data.released} released`;
    case 'CreditReversed':
    case 'DebitReversed': return `${event.data.reversed_position}: ${event.data.amount}`;
  }
}
const events = await api.GET('/events', { params: { query: { subject: account } } });
assert(Array.isArray(events.data), `events: ${JSON.stringify(events.error)}`); // a stream would be a string
assert.deepEqual(events.data.map(said),
  ['Ada in EUR', '+12.34 EUR', '+1.00 EUR', '+90071992547409.93 EUR', '-90071992547409.93 EUR']);

console.log('openapi-typescript: the main path is right');
