// What the key of this tab may not do. No route says which scopes a key has, so an empty batch of commands is sent, once a key.
import { send } from './api.js';
import { authorization } from './key.js';

let asked = { credential: null, missing: null };

// learn finds out what the key lacks, if there is a key.
export async function learn(signal) {
  const credential = authorization();
  if (credential === asked.credential) return;
  let missing = null;
  try {
    await send('POST', '/commands', { body: [], signal });
  } catch (problem) {
    if (problem.status !== 403) return;
    missing = problem.scope;
  }
  asked = { credential, missing };
}

// lacking says that the key lacks a scope, or is null.
export const lacking = (scope) => (asked.missing === scope && asked.credential === authorization() ? `The key lacks the scope ${scope}.` : null);
