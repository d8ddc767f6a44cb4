// Finding accounts by what people know of them: a part of the owner's name, an id, or the reference of a movement.
import { Problem, get } from './api.js';

export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

// read returns what a path holds, or null if there is nothing there.
export async function readOrNull(path, signal) {
  try {
    return (await get(path, { signal })).body;
  } catch (problem) {
    if (problem.status === 404) return null;
    throw problem;
  }
}

// findAccounts returns at most so many accounts. A part of an id finds nothing: the API has no search by it.
export async function findAccounts(text, { currency, limit = 8, signal } = {}) {
  if (UUID.test(text)) return [await readOrNull(`/accounts/${text.toLowerCase()}`, signal)].filter(Boolean);
  const [byName, moved] = await Promise.all([
    get('/accounts', { query: { owner_contains: text, currency, sort: 'owner', limit }, signal }),
    get('/transactions', { query: { reference: text, currency, limit: 20 }, signal }),
  ]);
  const found = byName.body.accounts;
  const others = [...new Set(moved.body.transactions.map((one) => one.account_id))].filter((id) => !found.some((one) => one.account_id === id));
  const more = await Promise.all(others.slice(0, Math.max(0, limit - found.length)).map((id) => readOrNull(`/accounts/${id}`, signal)));
  return [...found, ...more.filter(Boolean)];
}
