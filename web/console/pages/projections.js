// Projections: the state of each, and its actions.
import { h, fill } from '../dom.js';
import { get } from '../api.js';
import { every, note, trouble } from '../parts.js';
import { card } from '../projection.js';
import { learn } from '../scopes.js';

export function show({ root, signal }) {
  const list = h('div', { class: 'stack' }, note('Reading …'));
  fill(root, h('h1', null, 'Projections'),
    h('p', { class: 'lede' }, 'Each projection follows the log and maintains a read model. Queries use only the read models. ',
      h('a', { href: '#/webhooks' }, 'Webhooks'), ' follow it too.'), list);
  const cards = new Map();
  const now = every(1000, signal, async () => {
    const { body: { projections } } = await get('/projections', { signal });
    await learn(signal);
    if (projections.some(({ id }) => !cards.has(id))) {
      for (const { id } of projections) cards.set(id, card(id, { changed: () => now() }));
      fill(list, projections.map(({ id }) => cards.get(id).element));
    }
    for (const one of projections) cards.get(one.id).update(one);
  }, (problem) => fill(list, trouble(problem)));
}
