// Movements of all accounts, found by what is known of them.
import { h, fill, put } from '../dom.js';
import { Problem, get } from '../api.js';
import { countedKinds, kinds, ofAll } from '../movements.js';
import { learn } from '../scopes.js';
import { download, filters, found, inCurrencies, latest, load, pager, panel, period, table } from '../parts.js';

export function show({ root, query, signal }) {
  let asked = query;
  const currency = () => asked.get('currency') ?? '';
  const search = filters('/movements', [
    { name: 'reference', label: 'Reference', placeholder: 'exact match' },
    { name: 'transfer_id', label: 'Transfer id' },
    { name: 'metadata_key', label: 'Metadata key' },
    { name: 'metadata', label: 'Metadata value', placeholder: 'exact match' },
    { name: 'min_amount', label: 'At least', width: 'narrow', type: 'amount', currency },
    { name: 'max_amount', label: 'At most', width: 'narrow', type: 'amount', currency },
    { name: 'currency', label: 'Currency', options: inCurrencies([]) },
    kinds,
    period,
    { name: 'from', label: 'From', type: 'moment' },
    { name: 'to', label: 'Before', type: 'moment' },
    { name: 'sort', label: 'Order', options: [['', 'Newest first'], ['recorded_at', 'Oldest first']] },
  ], query);
  get('/totals', { signal }).then(({ body }) => search.offer('currency', inCurrencies(body.totals))).catch(() => {}); // the list says what is wrong
  const sum = h('span', { class: 'about', role: 'status' });
  const list = panel('Movements found', { wide: true, actions: h('div', { class: 'choice' }, sum, download('/transactions', () => ({ ...asFilters(asked), cursor: undefined, limit: 500, count: undefined }), () => 'movements.csv', signal)) });
  const turn = h('div', { class: 'turn' });
  let wait = query.get('wait');
  const rows = table('Movements', ofAll((receipt) => {
    wait = receipt.position;
    read();
  }), { empty: 'No movements match.' });
  fill(root, h('h1', null, 'Movements'), h('p', { class: 'lede' }, 'Money that moved on any account. Every filter that is filled in must match.'),
    search.element, list.element, turn);

  const next = latest(signal);
  const read = () => {
    const now = next();
    search.set(asked);
    load(list.body, now, () => search.checked(async () => {
      const { body } = await get('/transactions', { query: asFilters(asked), wait, signal: now });
      await learn(now);
      rows.rows(body.transactions);
      put(sum, found(body, 'movement', 'movements'));
      fill(turn, pager('/movements', asked, body.next_cursor));
      const { cursor, sort, ...others } = asFilters(asked);
      countedKinds('/transactions', others, { wait, signal: now }).then((options) => search.offer('kind', options)).catch(() => {}); // the list says what is wrong
      return rows.element;
    }));
  };
  read();
  return { update(now) { asked = now; read(); } };
}

// asFilters makes the filters of the API of those of the page.
function asFilters(asked) {
  const { metadata_key: key, metadata: value, wait, ...rest } = Object.fromEntries(asked);
  if (Boolean(key) !== Boolean(value)) {
    const missing = key ? 'metadata' : 'metadata_key';
    const detail = 'is needed: metadata is found by a key and its value';
    throw new Problem({ title: 'A filter is not complete', detail: `The metadata's ${key ? 'value' : 'key'} ${detail}.`, errors: [{ parameter: missing, detail }] });
  }
  return {
    ...rest, currency: rest.currency?.toUpperCase(),
    ...(key ? { [`metadata[${key}]`]: value } : {}), limit: 25, count: true,
  };
}
