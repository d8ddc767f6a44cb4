// Webhooks: the state of each subscription, its last error and its attempts, and how to let it go on.
import { h, fill, put, toast } from '../dom.js';
import { get, send } from '../api.js';
import { guarded } from '../commands.js';
import { openForm } from '../form.js';
import { count, time } from '../format.js';
import { badge, every, note, pairs, panel, table, trouble } from '../parts.js';
import { lacking, learn } from '../scopes.js';

// standing is the state of a webhook in a word: an active one that cannot deliver is failing.
export const standing = (one) => (one.state === 'active' && one.failing_since !== null ? 'failing' : one.state);

// ruledOut says why a webhook cannot be made or changed, or is null.
const ruledOut = () => lacking('events:read', 'projections:admin');

export function show({ root, signal }) {
  const list = h('div', { class: 'stack' }, note('Reading …'));
  const creating = h('div', { class: 'commands' });
  let offered;
  const offer = () => {
    const why = ruledOut();
    if (why === offered) return;
    offered = why;
    fill(creating, guarded('Create a webhook', () => create(() => now()), why, { class: 'primary' }), why && h('p', { class: 'meta why' }, why));
  };
  fill(root,
    h('div', { class: 'title' }, h('h1', null, 'Webhooks'), creating),
    h('p', { class: 'lede' }, 'Each webhook has the events of the log sent to a URL, in order and at least once.'), list);
  let cards = new Map();
  const now = every(2000, signal, async () => {
    const { body: { webhooks } } = await get('/webhooks', { signal });
    await learn(signal);
    offer();
    const known = [...cards.keys()].join();
    cards = new Map(webhooks.map((one) => [one.id, cards.get(one.id) ?? card(one, signal, () => now())]));
    if (cards.size === 0) fill(list, note('There are no webhooks. Create one to have events sent to a URL.'));
    else if ([...cards.keys()].join() !== known) fill(list, [...cards.values()].map(({ element }) => element));
    for (const one of webhooks) cards.get(one.id).update(one);
  }, (problem) => fill(list, trouble(problem)));
}

function card({ id, url }, signal, changed) {
  const state = h('div');
  const actions = h('div', { class: 'actions' });
  const { element, body } = panel(url, { wide: true, actions });
  element.classList.add('webhook');
  const attempts = table(`Deliveries to ${url}`, [
    { head: 'Time', cell: (one) => time(one.at) },
    { head: 'Position', num: true, cell: (one) => h('a', { href: `#/log/${one.position}` }, String(one.position)) },
    { head: 'Type', cell: (one) => one.type },
    { head: 'Attempt', num: true, cell: (one) => count(one.attempt) },
    { head: 'Outcome', cell: (one) => badge(one.outcome) },
    { head: 'Status', num: true, cell: (one) => one.status ?? '–' },
    { head: 'Took', num: true, cell: (one) => `${count(one.latency_ms)} ms` },
    { head: 'Error', cell: (one) => one.error ?? '–' },
  ], { empty: 'Nothing was sent yet.' });
  const more = h('details', { on: { toggle: read } }, h('summary', null, 'Last deliveries'), attempts.element);
  fill(body, state, more);

  async function read() {
    if (!more.open || signal.aborted) return;
    const { body: { deliveries } } = await get(`/webhooks/${id}/deliveries`, { query: { limit: 20 }, signal });
    attempts.rows(deliveries);
  }
  const change = (method, path, sent, done) => async () => {
    try {
      await send(method, `/webhooks/${id}${path}`, { body: sent });
      toast(done);
      changed();
    } catch (problem) {
      toast(problem.message);
    }
  };
  const button = (text, click) => guarded(text, click, ruledOut());
  let shown = '';
  let last = 0;
  return {
    element,
    update(one) {
      if (one.state !== shown) {
        fill(actions, one.state === 'active'
          ? button('Pause', change('PATCH', '', { state: 'paused' }, 'Nothing is sent until it is resumed.'))
          : button('Resume', change('POST', '/resume', {}, 'It goes on where it stopped.')));
        shown = one.state;
      }
      fill(state, pairs([
        ['State', badge(standing(one))],
        ['Position', `${count(one.position)} (${count(one.lag)} behind)`],
        ['Events', one.types.length === 0 ? 'of all types' : one.types.join(', ')],
        one.accounts.length > 0 && ['Accounts', count(one.accounts.length)],
        one.last_error !== null && ['Last error', one.last_error],
        one.failing_since !== null && ['Failing since', time(one.failing_since)],
        one.next_attempt_at !== null && one.state === 'active' && ['Next attempt', time(one.next_attempt_at)],
        one.last_delivered_at !== null && ['Last delivered', time(one.last_delivered_at)],
      ]));
      if (one.position + one.attempts !== last) read().catch(() => {}); // the next state says what is wrong
      last = one.position + one.attempts;
    },
  };
}

function create(changed) {
  openForm({
    title: 'Create a webhook', label: 'Create it',
    about: 'It begins at the end of the log. The secret that its messages are signed with is shown once.',
    list: [{ name: 'url', label: 'URL', required: true, placeholder: 'https://example.com/passbook' }],
    submit: (values) => send('POST', '/webhooks', { body: values }),
    done({ url, secret }) {
      changed();
      const text = h('code', { class: 'secret' });
      put(text, secret);
      const dialog = h('dialog', { 'aria-label': `Secret of the webhook to ${url}` }, h('h2', null, 'Secret'),
        h('p', { class: 'about' }, 'Messages are verified with it. It is not shown again.'), h('p', null, text),
        h('form', { method: 'dialog', class: 'actions' }, h('button', { type: 'submit', class: 'primary' }, 'I have kept it')));
      dialog.addEventListener('close', () => dialog.remove());
      document.body.append(dialog);
      dialog.showModal();
    },
  });
}
