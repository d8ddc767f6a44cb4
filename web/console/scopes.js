// What may be done here with the key of this tab, if there is one: its scopes, and whether the server takes commands.
import { get } from './api.js';
import { authorization } from './key.js';

let known = { credential: null, me: null };

// learn reads it, once for each key.
export async function learn(signal) {
  if (known.me && known.credential === authorization()) return;
  try {
    const { body: me } = await get('/me', { signal });
    known = { credential: authorization(), me };
  } catch { /* what the page reads says what is wrong */ }
}

// lacking says why what needs these scopes cannot be done, or is null.
export function lacking(...scopes) {
  const { credential, me } = known;
  if (!me || credential !== authorization()) return null;
  if (me.follower && scopes.some((scope) => scope === 'accounts:write' || scope === 'subjects:erase')) {
    return `This server follows another and takes no commands.${me.primary_url ? ` Send them to ${me.primary_url}.` : ''}`;
  }
  const missing = scopes.find((scope) => !me.scopes.includes(scope));
  return missing ? `The key lacks the scope ${missing}.` : null;
}
