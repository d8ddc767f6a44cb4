// The money of a currency during the last seven days. The API has no sums by day, so they are made of the movements, exactly and only
// while there are few enough of them to read.
import { get } from './api.js';

const DAYS = 7;
const MOST = 2000; // movements that are read

const units = (decimal) => BigInt(decimal.replace('.', ''));

function decimal(n, places) {
  const digits = String(n < 0n ? -n : n).padStart(places + 1, '0');
  return (n < 0n ? '-' : '') + (places ? `${digits.slice(0, -places)}.${digits.slice(-places)}` : digits);
}

const dayOf = (milliseconds) => new Date(milliseconds).toISOString().slice(0, 10);

// week returns the days, the newest first, and the largest movements, as of a position; or only how many movements there are, if they
// are too many. What has moved since the balance was read is left out, so that the days before are exact while money moves.
export async function week(currency, signal) {
  const { body: { totals }, position } = await get('/totals', { signal });
  const first = dayOf(Date.now() - (DAYS - 1) * 864e5);
  const movements = [];
  let cursor;
  do {
    const { body } = await get('/transactions', { query: { currency, from: `${first}T00:00:00Z`, limit: 500, cursor, count: cursor ? undefined : true }, wait: position, signal });
    if (body.total_exceeds || body.total > MOST) return { many: body.total };
    movements.push(...body.transactions.filter((one) => one.position <= position));
    cursor = body.next_cursor;
  } while (cursor);
  const total = totals.find((one) => one.currency === currency);
  return { position, days: days(movements, total), largest: movements.toSorted((a, b) => Number(units(b.amount) - units(a.amount))).slice(0, 5) };
}

// days counts back from the balance now. A transfer between two accounts is neither money that comes in nor money that goes out.
function days(movements, { balance }) {
  const places = (balance.split('.')[1] ?? '').length;
  let left = units(balance);
  return Array.from({ length: DAYS }, (_, n) => {
    const day = dayOf(Date.now() - n * 864e5);
    const moved = movements.filter((one) => one.recorded_at.startsWith(day) && !one.transfer_id);
    const sum = (kinds) => moved.filter((one) => kinds.includes(one.kind)).reduce((all, one) => all + units(one.amount), 0n);
    const came = sum(['deposit', 'reversal_in']);
    const went = sum(['withdrawal', 'reversal_out']);
    const row = { day, in: decimal(came, places), out: decimal(went, places), balance: decimal(left, places) };
    left -= came - went;
    return row;
  });
}
