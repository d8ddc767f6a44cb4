// Accounts by the names of their owners, where a page knows only their ids.
import { Problem, get } from './api.js';
import { h, put } from './dom.js';
import { named, short } from './format.js';
import { lacking, learn } from './scopes.js';

const FRESH = 30_000; // milliseconds after which a name is read again
const AT_ONCE = 3; // requests: a browser opens six connections, and streams have some of them
const MOST = 200; // accounts that wait to be read; a busy log brings more than anybody looks at

const known = new Map(); // owners by account id, with the time they were read at
const waiting = new Map(); // accounts to read: the position that they are known from, and the elements to fill
let reading = 0;
let resting = 0; // until then nothing is read, because it failed

// know remembers an owner that has been read.
export function know(id, owner) {
  known.set(id, { owner, at: Date.now() });
}

// forget is called when an owner may have changed.
export const forget = () => known.clear();

// accountName shows whose account it is: the end of its id until the name has been read, or if it cannot be. position is one at which
// the account is in the log.
export const accountName = (id, position) => filled(h('span', { title: id }), id, position);

// accountLink is accountName as a link to the account, or to a tab of its page.
export const accountLink = (id, position, tab = '') => filled(h('a', { href: `#/accounts/${id}${tab}`, title: id }), id, position);

function filled(element, id, position) {
  const found = known.get(id);
  put(element, found ? named(found.owner) : short(id));
  if (found && Date.now() - found.at < FRESH) return element;
  const asked = waiting.get(id) ?? { position, elements: [] };
  asked.elements.push(element);
  waiting.set(id, asked);
  if (waiting.size > MOST) waiting.delete(waiting.keys().next().value);
  queueMicrotask(readOn);
  return element;
}

async function readOn() {
  if (Date.now() < resting) waiting.clear();
  const [id, asked] = [...waiting].find(([, one]) => !one.begun) ?? [];
  if (!id || reading === AT_ONCE) return;
  const { position, elements } = asked;
  asked.begun = true;
  reading += 1;
  queueMicrotask(readOn);
  try {
    await learn();
    if (lacking('accounts:read')) return;
    const { body: { owner } } = await get(`/accounts/${id}`, { wait: position, patience: 1 });
    know(id, owner);
    for (const element of elements) put(element, named(owner));
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.status !== 404) resting = Date.now() + 10_000;
  } finally {
    reading -= 1;
    waiting.delete(id);
    queueMicrotask(readOn);
  }
}

// ownerOf is the name of an account's owner, or null if it cannot be read.
export async function ownerOf(id) {
  try {
    const { body: { owner } } = await get(`/accounts/${id}`);
    know(id, owner);
    return named(owner);
  } catch (error) {
    if (error instanceof Problem) return null;
    throw error;
  }
}
